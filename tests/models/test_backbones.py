import pytest
import timm
import torch

from voco2d.errors import CheckpointError, UsageError
from voco2d.models.backbones import build_backbone, feature_map_size


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


def test_a_model_without_a_map_is_refused() -> None:
    with pytest.raises(UsageError, match="takes no image of 64 pixels"):
        build_backbone("swin_tiny_patch4_window7_224")


def test_missing_imagenet_weights_say_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise FileNotFoundError("no connection")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"ImageNet weights can't be had .*HF_HOME"):
        build_backbone("resnet18", imagenet=True)
