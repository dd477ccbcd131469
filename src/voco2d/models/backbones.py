"""2D backbones by their timm name, as modules that turn an image into a feature map."""

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from voco2d.errors import CheckpointError, ConfigError, UsageError
from voco2d.models.feature_maps import give_map, restrict_sizes
from voco2d.models.imagenet import imagenet_source, weights_config

_PROBE_SIZE = 64
"""Pixels of the square image a new backbone is tried with."""
_ANY_SIZE: dict[str, dict[str, Any]] = {
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
    "swin_transformer_v2_cr": {"strict_img_size": False},
    "vision_transformer": {"dynamic_img_size": True},
    "vision_transformer_hybrid": {"dynamic_img_size": True},
}
"""What lets the models of a timm module take images of other sizes than they were made for; no weight depends on it."""
_ADVICE = "choose a backbone such as efficientnet_b0, resnet18, convnext_atto or vit_tiny_patch16_224"


def build_backbone(name: str, in_chans: int = 1, imagenet: bool = False, drop_rate: float = 0.0) -> nn.Module:
    """Build a timm model without pooling and classifier: (N, C, H, W) → feature map (N, F, h, w).

    Its `num_features` is F. A vision transformer's patch tokens are laid out as a map, and maps that timm gives as
    (N, h, w, F) are turned. Where a backbone takes only some sizes, its forward pass refuses others.

    Args:
        name: timm model name, optionally with the tag of its weights (`resnet18.a1_in1k`).
        in_chans: Channels of the image; ImageNet weights of the first convolution are adapted by timm.
        imagenet: Whether to start from timm's pretrained weights.
        drop_rate: timm's dropout before the classifier.

    Raises:
        UsageError: timm knows no such model, or the model gives no feature map.
        CheckpointError: The pretrained weights can't be had.
    """
    check_name(name)
    settings = {"in_chans": in_chans, "num_classes": 0, "global_pool": "", "drop_rate": drop_rate, **any_size(name)}
    backbone = _create(name, imagenet, settings)
    size = _probe_size(backbone, name, in_chans)
    give_map(backbone, name, _try(backbone, in_chans, size))
    # mobilenetv3 and its like end in a convolution after timm's num_features: what leaves forward counts here
    vars(backbone)["num_features"] = feature_map_size(backbone, in_chans, size)[0]
    return backbone


def check_name(name: str) -> None:
    """Raise UsageError with the nearest names where timm has no model `name`."""
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=5, cutoff=0.5)
    raise UsageError(f"timm has no backbone {name!r}; near names: {', '.join(near) or 'none, see timm.list_models()'}")


def any_size(name: str) -> dict[str, Any]:
    """Return timm's settings with which model `name` takes images of other sizes, where it has such settings."""
    module = timm.models.model_entrypoint(name.split(".")[0]).__module__
    return dict(_ANY_SIZE.get(module.rpartition(".")[2], {}))


def feature_map_size(backbone: nn.Module, in_chans: int, crop: int) -> tuple[int, int, int]:
    """Return (F, h, w), the size of the feature map of a `crop` × `crop` image.

    Raises:
        ConfigError: The backbone takes no image of that size.
    """
    try:
        features = _try(backbone, in_chans, crop)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"crop={crop}: this {type(backbone).__name__} takes no such image ({reason})") from error
    return int(features.shape[1]), int(features.shape[2]), int(features.shape[3])


def _create(name: str, imagenet: bool, settings: dict[str, Any]) -> nn.Module:
    source = imagenet_source(name) if imagenet else {}
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=imagenet, **source, **settings)
    except (TypeError, AssertionError) as error:
        raise UsageError(f"{name}: gives no feature map of any image size; {_ADVICE}") from error
    except Exception as error:
        # the download's errors come from several libraries (huggingface_hub, httpx, urllib) without a common class
        if not imagenet:
            raise
        raise CheckpointError(
            f"{name}: ImageNet weights can't be had ({type(error).__name__}); connect to huggingface.co once, copy its "
            "cache (HF_HOME) here, or start from a timm state dict file or at random (init FILE or random)"
        ) from error
    return backbone


def _probe_size(backbone: nn.Module, name: str, in_chans: int) -> int:
    """Return pixels of an image the backbone takes; make it refuse others where it can't take them."""
    if _takes(backbone, in_chans, _PROBE_SIZE):
        restrict_sizes(backbone, name, multiple=_patch(backbone, name))
        return _PROBE_SIZE
    own = int(weights_config(name).input_size[-1])
    patch = _patch(backbone, name)
    for size in (own, own // patch * patch):
        if size and _takes(backbone, in_chans, size):
            if patch > 1:
                restrict_sizes(backbone, name, multiple=patch)
            elif not _takes(backbone, in_chans, size + 32):
                restrict_sizes(backbone, name, only=size)
            return size
    raise UsageError(f"{name}: takes images neither of {_PROBE_SIZE} nor of its own {own} pixels; {_ADVICE}")


def _patch(backbone: nn.Module, name: str) -> int:
    """Return the pixels that must divide an image's sides, for models that take many sizes; else 1."""
    size = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    return int(size[0]) if any_size(name) and size is not None else 1


def _takes(backbone: nn.Module, in_chans: int, size: int) -> bool:
    try:
        _try(backbone, in_chans, size)
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


@torch.no_grad()
def _try(backbone: nn.Module, in_chans: int, size: int) -> Any:
    """Return what the backbone makes of an empty image, leaving its mode and statistics."""
    was_training = backbone.training
    device = next(backbone.parameters()).device
    try:
        features: Tensor = backbone.eval()(torch.zeros(1, in_chans, size, size, device=device))
    finally:
        backbone.train(was_training)
    return features
