import copy
from pathlib import Path

import pytest
import timm
import torch

from voco2d.errors import ConfigError, UsageError
from voco2d.models.backbones import build_backbone, feature_map_size
from voco2d.models.checkpoint import backbone_state, save_weights
from voco2d.models.state_names import load_state


@pytest.mark.parametrize(
    ("name", "features", "stride"),
    [
        ("test_efficientnet", 256, 32),
        ("test_resnet", 96, 32),
        ("mobilenetv3_small_050", 1024, 32),
        ("test_vit", 64, 16),
    ],
)
def test_any_backbone_gives_a_map_of_num_features(name: str, features: int, stride: int) -> None:
    backbone = build_backbone(name).eval()
    maps = backbone(torch.rand(2, 1, 96, 64))
    assert maps.shape == (2, features, 96 // stride, 64 // stride)
    assert backbone.num_features == features
    assert feature_map_size(backbone, 1, 96) == (features, 96 // stride, 96 // stride)


def test_feature_map_size_leaves_mode_and_statistics() -> None:
    backbone = build_backbone("test_efficientnet").train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    feature_map_size(backbone, 1, 64)
    assert backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_names_are_timms_own() -> None:
    assert (
        build_backbone("test_resnet").state_dict().keys()
        == timm.create_model("test_resnet", num_classes=0).state_dict().keys()
    )


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(UsageError, match=r"'efficientnetb0'; near names: .*efficientnet_b0"):
        build_backbone("efficientnetb0")


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "pit_ti_224", "coat_tiny"])
def test_a_model_without_a_map_is_refused(name: str) -> None:
    """pit gives a class token alone, which is no map of one pixel."""
    with pytest.raises(UsageError, match=f"{name}: gives .*no feature map"):
        build_backbone(name)


CONTRACT = {
    "efficientnet_b0": (1280, 32),
    "efficientnetv2_rw_t": (1024, 32),
    "resnet18": (512, 32),
    "convnext_atto": (320, 32),
    "vit_tiny_patch16_224": (192, 16),
    "swin_tiny_patch4_window7_224": (768, 32),
    "mambaout_femto": (1152, 32),
}
"""Features and stride of backbones of every layout timm has: maps, tokens, and maps with their features last."""


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_of_backbones(name: str, tmp_path: Path) -> None:
    """A map (N, F, h, w) of the image's aspect, and a strict round trip that gives the same map."""
    features, stride = CONTRACT[name]
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    images = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        maps = backbone(images)
    assert maps.shape == (2, features, 64 // stride, 96 // stride)
    assert backbone.num_features == features
    save_weights(tmp_path / "weights.safetensors", backbone.state_dict(), {"backbone": name})
    state, _ = backbone_state(tmp_path)
    torch.manual_seed(1)
    again = build_backbone(name).eval()
    load_state(again, state, name, "round trip")
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(again)(images), maps)


@pytest.mark.parametrize("name", ["mambaout_femto", "swin_tiny_patch4_window7_224"])
def test_maps_with_features_last_are_turned(name: str) -> None:
    """Took a bug: these came out as (N, h, w, F), read as h features."""
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    plain = timm.create_model(name, in_chans=1, num_classes=0, global_pool="").eval()
    plain.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), plain(images).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["levit_128s", "gmixer_12_224"])
def test_a_model_of_one_size_names_it(name: str) -> None:
    backbone = build_backbone(name)
    assert feature_map_size(backbone, 1, 224)[0] == backbone.num_features
    with pytest.raises(ConfigError, match=f"{name} takes images of 224 × 224 pixels only, not 64 × 64; set the crop"):
        feature_map_size(backbone, 1, 64)


def test_a_crop_that_patches_dont_divide_is_refused() -> None:
    backbone = build_backbone("vit_tiny_patch16_224")
    with pytest.raises(
        ConfigError, match=r"patches of 16 pixels don't divide an image of 100 × 100; set the crop to a"
    ):
        feature_map_size(backbone, 1, 100)
    with pytest.raises(ConfigError, match="crop=16: this InceptionV3 takes no such image"):
        feature_map_size(build_backbone("inception_v3"), 1, 16)
