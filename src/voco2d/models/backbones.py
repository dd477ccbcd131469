"""2D backbones by their timm name, as modules that turn an image into a feature map."""

import difflib
from typing import Any

import timm
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import CheckpointError, UsageError

_PROBE_SIZE = 64
"""Pixels of the square image a new backbone is tried with."""


def build_backbone(name: str, in_chans: int = 1, imagenet: bool = False, drop_rate: float = 0.0) -> nn.Module:
    """Build a timm model without pooling and classifier: (N, C, H, W) → feature map (N, F, h, w).

    Its `num_features` is F. A vision transformer's patch tokens are laid out as a map.

    Args:
        name: timm model name, optionally with the tag of its weights (`resnet18.a1_in1k`).
        in_chans: Channels of the image; ImageNet weights of the first convolution are adapted by timm.
        imagenet: Whether to start from timm's pretrained weights.
        drop_rate: timm's dropout before the classifier.

    Raises:
        UsageError: timm knows no such model, or the model gives no feature map.
        CheckpointError: The pretrained weights can't be had.
    """
    settings: dict[str, Any] = {"in_chans": in_chans, "num_classes": 0, "global_pool": "", "drop_rate": drop_rate}
    check_name(name)
    if name.split(".")[0].startswith(("vit_", "test_vit", "deit", "eva")):
        settings["dynamic_img_size"] = True
    backbone = _create(name, imagenet, settings)
    _give_map(backbone, name)
    # mobilenetv3 and its like end in a convolution after timm's num_features: what leaves forward counts here
    vars(backbone)["num_features"] = feature_map_size(backbone, in_chans, _PROBE_SIZE)[0]
    return backbone


def check_name(name: str) -> None:
    """Raise UsageError with the nearest names where timm has no model `name`."""
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=5, cutoff=0.5)
    raise UsageError(f"timm has no backbone {name!r}; near names: {', '.join(near) or 'none, see timm.list_models()'}")


@torch.no_grad()
def feature_map_size(backbone: nn.Module, in_chans: int, crop: int) -> tuple[int, int, int]:
    """Return (F, h, w), the size of the feature map of a `crop` × `crop` image."""
    was_training = backbone.training
    device = next(backbone.parameters()).device
    try:
        features: Tensor = backbone.eval()(torch.zeros(1, in_chans, crop, crop, device=device))
    finally:
        backbone.train(was_training)
    return int(features.shape[1]), int(features.shape[2]), int(features.shape[3])


def _create(name: str, imagenet: bool, settings: dict[str, Any]) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=imagenet, **settings)
    except (TypeError, AssertionError) as error:
        raise UsageError(f"{name}: gives no feature map of any image size; choose a convolutional backbone") from error
    except Exception as error:
        # the download's errors come from several libraries (huggingface_hub, httpx, urllib) without a common class
        if not imagenet:
            raise
        raise CheckpointError(
            f"{name}: ImageNet weights can't be had ({type(error).__name__}); connect to huggingface.co once, copy its "
            "cache (HF_HOME) here, or start from a timm state dict file or at random (init FILE or random)"
        ) from error
    return backbone


def _give_map(backbone: nn.Module, name: str) -> None:
    """Make `forward` return (N, F, h, w), or refuse the backbone."""
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    in_chans = next(param.shape[1] for param in backbone.parameters() if param.ndim == 4)
    was_training = backbone.training
    with torch.no_grad():
        try:
            features = backbone.eval()(torch.zeros(1, in_chans, _PROBE_SIZE, _PROBE_SIZE))
        except (AssertionError, RuntimeError) as error:
            raise UsageError(f"{name}: takes no image of {_PROBE_SIZE} pixels; choose another backbone") from error
    backbone.train(was_training)
    if features.ndim == 3 and _is_square(features.shape[1] - prefix):
        backbone.register_forward_hook(lambda module, inputs, tokens: _tokens_to_map(module, inputs, tokens, prefix))
    elif features.ndim != 4:
        raise UsageError(f"{name}: gives {tuple(features.shape)}, no feature map; choose a convolutional backbone")


def _tokens_to_map(
    module: nn.Module, inputs: tuple[Tensor, ...], tokens: Float[Tensor, "N T F"], prefix: int
) -> Float[Tensor, "N F h w"]:
    """Lay patch tokens (N, prefix + h·w, F) out as a map of the image's aspect."""
    del module
    height, width = inputs[0].shape[-2:]
    patches = tokens.shape[1] - prefix
    rows = round((patches * height / width) ** 0.5)
    return rearrange(tokens[:, prefix:], "n (h w) f -> n f h w", h=rows)


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count
