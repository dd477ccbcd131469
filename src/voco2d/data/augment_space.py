"""Changes of where things are in a batch of volumes: flips, turns, and one resampling for rotation and crop."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def flip_axes(
    values: Float[Tensor, "B ..."], tossed: Bool[Tensor, "B axes"], enabled: Sequence[bool], axes: Sequence[int]
) -> Float[Tensor, "B ..."]:
    """Reverse axes of each volume.

    Args:
        values: One entry a volume.
        tossed: Which of `axes` are reversed, on the CPU.
        enabled: Which of them may be.
        axes: Of `values`, 1 and more.

    Returns:
        Same shape; the same tensor where nothing is reversed.
    """
    chosen = [
        [axis - 1 for axis, may, heads in zip(axes, enabled, row, strict=True) if may and heads]
        for row in tossed.tolist()
    ]
    if not any(chosen):
        return values
    return torch.stack([volume.flip(dims) if dims else volume for volume, dims in zip(values, chosen, strict=True)])


def turn(volumes: Float[Tensor, "B S C H W"], quarters: Sequence[int]) -> Float[Tensor, "B S C H W"]:
    """Turn the slices of each volume by quarters, from rows to columns; slices are square."""
    turned = [volume.rot90(count, (2, 3)) for volume, count in zip(volumes, quarters, strict=True)]
    return torch.stack(turned)


def move(
    volumes: Float[Tensor, "B S C H W"],
    degrees: Float[Tensor, " B"],
    cut: Float[Tensor, " B"],
    down: Float[Tensor, " B"],
    right: Float[Tensor, " B"],
) -> Float[Tensor, "B S C H W"]:
    """Rotate slices about their middle and stretch a part of them over the whole, in one bilinear resampling.

    Args:
        volumes: (B, S, C, H, W); what would lie outside of a slice repeats its border.
        degrees: Rotation, one a volume.
        cut: Share of each side that is cut away, 0 up to 1.
        down: Where the rest lies, 0 at the first row, 1 at the last.
        right: The same along columns.
    """
    _, slices, _, height, width = volumes.shape
    kept, angle = 1 - cut, degrees.deg2rad()
    cos, sin = kept * angle.cos(), kept * angle.sin()
    # grid_sample counts both axes from −1 to 1, so that a slice that isn't square needs its ratio
    across = torch.stack([cos, -sin * (height / width), cut * (2 * right - 1)], dim=1)
    along = torch.stack([sin * (width / height), cos, cut * (2 * down - 1)], dim=1)
    images = rearrange(volumes, "b s c h w -> b (s c) h w")
    grid = F.affine_grid(torch.stack([across, along], dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return rearrange(moved, "b (s c) h w -> b s c h w", s=slices)
