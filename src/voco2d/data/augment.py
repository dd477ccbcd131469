"""Random changes of a training volume that leave its labels true: flips, small crops, intensity, noise.

The liver lies on the right and the spleen on the left, and each has its own target. Flips in the slice are therefore
off by default: the width flip would exchange the sides. Reversing the slices leaves each slice as it is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class AugmentArgs:
    """Settings of `augment`; each change is off at 0 or false.

    Args:
        flip_depth: Reverse the slices in half of the draws.
        flip_height: Swap anterior and posterior in half of the draws.
        flip_width: Swap right and left in half of the draws.
        crop: Largest share of each in-plane side cut away and stretched over again, 0…0.9.
        contrast: Largest relative change of contrast about mid-window, 0…1.
        brightness: Largest shift, as a share of the window, 0…1.
        noise: Largest standard deviation of added Gaussian noise, as a share of the window, 0…1.
    """

    flip_depth: bool = True
    flip_height: bool = False
    flip_width: bool = False
    crop: float = 0.1
    contrast: float = 0.15
    brightness: float = 0.05
    noise: float = 0.02

    def __post_init__(self) -> None:
        """Refuse shares that make no sense."""
        for name, high in (("crop", 0.9), ("contrast", 1.0), ("brightness", 1.0), ("noise", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                raise ConfigError(f"augment.{name}={getattr(self, name)}: must lie in 0…{high}")


def augment(volume: Float[Tensor, "S C H W"], args: AugmentArgs, generator: Generator) -> Float[Tensor, "S C H W"]:
    """Return a changed copy of a windowed volume; every slice is changed alike, but for noise.

    Args:
        volume: (S, C, H, W), 0…1.
        args: Which changes and how large.
        generator: The only source of randomness.

    Returns:
        Same shape, 0…1.
    """
    changed = _flip(volume, args, generator)
    if args.crop > 0:
        changed = _crop_and_stretch(changed, args.crop, generator)
    return _jitter(changed, args, generator)


def _flip(volume: Tensor, args: AugmentArgs, generator: Generator) -> Tensor:
    wanted = {0: args.flip_depth, 2: args.flip_height, 3: args.flip_width}
    tossed = (torch.rand(len(wanted), generator=generator) < 0.5).tolist()
    axes = [axis for (axis, enabled), heads in zip(wanted.items(), tossed, strict=True) if enabled and heads]
    return volume.flip(axes)


def _crop_and_stretch(volume: Tensor, share: float, generator: Generator) -> Tensor:
    height, width = volume.shape[-2:]
    cut, down, right = torch.rand(3, generator=generator).tolist()
    kept_height, kept_width = (max(1, round(side * (1 - share * cut))) for side in (height, width))
    top, left = round(down * (height - kept_height)), round(right * (width - kept_width))
    kept = volume[..., top : top + kept_height, left : left + kept_width]
    stretched: Tensor = F.interpolate(kept, size=(height, width), mode="bilinear", align_corners=False)
    return stretched


def _jitter(volume: Tensor, args: AugmentArgs, generator: Generator) -> Tensor:
    contrast, brightness, noise = torch.rand(3, generator=generator).tolist()
    scale = 1 + args.contrast * (2 * contrast - 1)
    shift = args.brightness * (2 * brightness - 1)
    changed: Tensor = (volume - 0.5) * scale + 0.5 + shift
    if args.noise > 0:
        changed += args.noise * noise * torch.randn(volume.shape, generator=generator, dtype=volume.dtype)
    return changed.clamp_(0, 1)
