"""The feature map (N, F, h, w) of timm models, whatever layout they give it in, and the image sizes they take."""

from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError, UsageError


def give_map(backbone: nn.Module, name: str, probe: Any) -> None:
    """Make `forward` return (N, F, h, w).

    Args:
        backbone: timm model without pooling and classifier.
        name: Its name, for messages.
        probe: What it makes of one square image.

    Raises:
        UsageError: It gives nothing that can be laid out as a map.
    """
    features = {getattr(backbone, key, None) for key in ("num_features", "head_hidden_size")}
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    shape = tuple(probe.shape) if isinstance(probe, Tensor) else ()
    if len(shape) == 4 and (shape[1] in features or shape[3] not in features):
        return
    if len(shape) == 4:
        backbone.register_forward_hook(_turn)
    elif len(shape) == 3 and shape[2] in features and _is_square(shape[1] - prefix):
        backbone.register_forward_hook(_TokensToMap(prefix))
    else:
        raise UsageError(f"{name}: gives {shape or type(probe).__name__}, no feature map; choose another backbone")


def restrict_sizes(backbone: nn.Module, name: str, only: int = 0, multiple: int = 1) -> None:
    """Make `forward` refuse images that the backbone can't take.

    Args:
        backbone: The model.
        name: Its timm name, for messages.
        only: The one side length it takes, in pixels; 0 where it takes several.
        multiple: What a side length must be a multiple of, in pixels.
    """
    if only or multiple > 1:
        backbone.register_forward_pre_hook(_SizeCheck(name, only, multiple))


class _SizeCheck:
    """Refuses images of other sizes; an object, so that copies of a backbone can be pickled."""

    def __init__(self, name: str, only: int, multiple: int) -> None:
        self._name = name
        self._only = only
        self._multiple = multiple

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        height, width = inputs[0].shape[-2:]
        if self._only and (height, width) != (self._only, self._only):
            raise ConfigError(
                f"{self._name} takes images of {self._only} × {self._only} pixels only, not {height} × {width}; "
                f"set the crop to {self._only}, or choose another backbone"
            )
        if height % self._multiple or width % self._multiple:
            raise ConfigError(
                f"{self._name}: its patches of {self._multiple} pixels don't divide an image of {height} × {width}; "
                f"set the crop to a multiple of {self._multiple}"
            )


class _TokensToMap:
    """Lays patch tokens (N, prefix + h·w, F) out as a map (N, F, h, w) of the image's aspect."""

    def __init__(self, prefix: int) -> None:
        self._prefix = prefix

    def __call__(
        self, module: nn.Module, inputs: tuple[Tensor, ...], tokens: Float[Tensor, "N T F"]
    ) -> Float[Tensor, "N F h w"]:
        del module
        height, width = inputs[0].shape[-2:]
        patches = tokens.shape[1] - self._prefix
        rows = round((patches * height / width) ** 0.5)
        return rearrange(tokens[:, self._prefix :], "n (h w) f -> n f h w", h=rows)


def _turn(module: nn.Module, inputs: tuple[Tensor, ...], maps: Float[Tensor, "N h w F"]) -> Float[Tensor, "N F h w"]:
    del module, inputs
    return rearrange(maps, "n h w f -> n f h w")


def _is_square(count: int) -> bool:
    """Tell whether patches fill a square; a single token is a summary of the image and no patch."""
    return count > 1 and round(count**0.5) ** 2 == count
