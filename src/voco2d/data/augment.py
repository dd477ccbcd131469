"""Random changes of training volumes, a batch at a time, where the volumes are: on the CPU or the GPU.

The liver lies on the right and the spleen on the left, and each has its own target. Flips and turns in the slice are
therefore off by default: they would exchange the sides. Reversing the slices leaves each slice as it is. The preset
`paper` turns all of the paper's changes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from voco2d.data.augment_intensity import add_noise, cut_out, gamma, remap_histogram
from voco2d.data.augment_space import flip_axes, move, turn
from voco2d.errors import ConfigError

_HIGHEST = {"crop": 0.9, "rotate": 180.0, "cut_out_size": 0.9}
"""Upper ends of settings that don't end at 1."""
_AXES = (1, 3, 4)
"""Of (B, S, C, H, W): slices, rows, columns, in the order of `Changes.flips`."""
_KNOTS = 7
"""Inner ends of the eighths of the window that the histogram change moves against each other."""
_OTHERS = 12
"""Draws before those of the knots."""
_BITS = 62
"""Of the seeds of noise."""


@dataclass(frozen=True)
class AugmentArgs:
    """Settings of `augment`; each change is off at 0 or false.

    Args:
        flip_depth: Reverse the slices in half of the draws.
        flip_height: Swap anterior and posterior in half of the draws.
        flip_width: Swap right and left in half of the draws.
        turn: Turn the slices by 0, 90, 180 or 270°, each in a quarter of the draws.
        rotate: Largest rotation in the slice, degrees, 0…180.
        crop: Largest share of each in-plane side cut away and stretched over again, 0…0.9.
        contrast: Largest relative change of contrast about mid-window, 0…1.
        brightness: Largest shift, as a share of the window, 0…1.
        gamma: Largest change of the exponent of intensity: it lies between 1 / (1 + gamma) and 1 + gamma, 0…1.
        histogram: Largest shift of eighths of the window against each other, 0…1; order is kept.
        noise: Largest standard deviation of added Gaussian noise, as a share of the window, 0…1.
        cut_out: Rectangles set to the low end of the window, the same on all slices.
        cut_out_size: Largest share of a side a rectangle takes, 0…0.9.
    """

    flip_depth: bool = True
    flip_height: bool = False
    flip_width: bool = False
    turn: bool = False
    rotate: float = 0.0
    crop: float = 0.1
    contrast: float = 0.15
    brightness: float = 0.05
    gamma: float = 0.0
    histogram: float = 0.0
    noise: float = 0.02
    cut_out: int = 0
    cut_out_size: float = 0.25

    def __post_init__(self) -> None:
        """Refuse shares that make no sense."""
        for field in fields(self):
            high = _HIGHEST.get(field.name, 1.0)
            if field.type in (float, "float") and not 0 <= getattr(self, field.name) <= high:
                raise ConfigError(f"augment.{field.name}={getattr(self, field.name)}: must lie in 0…{high:g}")
        if self.cut_out < 0:
            raise ConfigError(f"augment.cut_out={self.cut_out}: must be at least 0")


@dataclass(frozen=True)
class Changes:
    """What was drawn for each volume of a batch.

    Args:
        uniform: (B, draws) numbers 0…1 that the changes are made of.
        seeds: Of the noise of each volume.
    """

    uniform: Float[Tensor, "B draws"]
    seeds: Sequence[int]

    def __getitem__(self, part: slice) -> "Changes":
        """Return those of some of the volumes."""
        return Changes(self.uniform[part], self.seeds[part])

    @property
    def flips(self) -> Float[Tensor, "B 3"]:
        """Below ½ where slices, rows and columns are reversed, if that is on."""
        return self.uniform[:, :3]


def draw_changes(args: AugmentArgs, generators: Sequence[Generator]) -> Changes:
    """Draw the changes of volumes, each from its own generator, so that they don't depend on the batch.

    Args:
        args: Settings.
        generators: One a volume, on the CPU.
    """
    draws = _OTHERS + _KNOTS + 4 * args.cut_out
    uniform = torch.stack([torch.rand(draws, generator=generator) for generator in generators])
    seeds = [int(torch.randint(2**_BITS, (), generator=generator)) for generator in generators]
    return Changes(uniform, seeds)


def augment(volumes: Float[Tensor, "B S C H W"], args: AugmentArgs, changes: Changes) -> Float[Tensor, "B S C H W"]:
    """Return changed copies of windowed volumes; every slice of a volume is changed alike, but for noise.

    Args:
        volumes: (B, S, C, H, W), 0…1, from superior to inferior. H and W are alike where `turn` is on.
        args: Which changes and how large.
        changes: What was drawn, for each volume.

    Returns:
        Same shape, 0…1, on the same device.
    """
    drawn = changes.uniform.to(volumes.device)
    knots, boxes = drawn[:, _OTHERS : _OTHERS + _KNOTS], drawn[:, _OTHERS + _KNOTS :]
    angle, cut, down, right, contrast, brightness, exponent, noise = drawn[:, 4:_OTHERS].T
    enabled = (args.flip_depth, args.flip_height, args.flip_width)
    changed = flip_axes(volumes, changes.flips.cpu() < 0.5, enabled, _AXES)
    if args.turn:
        changed = turn(changed, (changes.uniform[:, 3] * 4).long().tolist())
    if args.rotate > 0 or args.crop > 0:
        changed = move(changed, args.rotate * (2 * angle - 1), args.crop * cut, down, right)
    if args.histogram > 0:
        changed = remap_histogram(changed, args.histogram * (2 * knots - 1))
    if args.gamma > 0:
        changed = gamma(changed, (1 + args.gamma) ** (2 * exponent - 1))
    if args.contrast > 0 or args.brightness > 0:
        scale = _spread(1 + args.contrast * (2 * contrast - 1))
        changed = (changed - 0.5) * scale + 0.5 + _spread(args.brightness * (2 * brightness - 1))
    if args.noise > 0:
        changed = add_noise(changed, args.noise * noise, changes.seeds)
    if args.contrast > 0 or args.brightness > 0 or args.noise > 0:
        changed = changed.clamp(0, 1)
    return cut_out(changed, boxes, args.cut_out_size) if args.cut_out else changed


def flip_slices(
    values: Float[Tensor, "B S targets"], args: AugmentArgs, changes: Changes
) -> Float[Tensor, "B S targets"]:
    """Put what is known of each slice into the order that `augment` leaves the slices in."""
    return flip_axes(values, changes.flips[:, :1].cpu() < 0.5, (args.flip_depth,), _AXES[:1])


def _spread(values: Float[Tensor, " B"]) -> Float[Tensor, "B 1 1 1 1"]:
    return values[:, None, None, None, None]
