"""The grid of a prepared volume: which part of its source each voxel covers."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from voco2d.preprocessing.body import Box
from voco2d.preprocessing.spatial import AxisWeights, axis_weights
from voco2d.types import Millimetres3, Shape3

Span: TypeAlias = tuple[float, float, float, float, float, float]
"""Ranges z0, z1, h0, h1, w0, w1 in source voxels, voxel i lying between i and i + 1; they may leave the source."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class AxisGrid:
    """One axis of a prepared volume.

    Args:
        weights: (target, source) shares of the box's voxels in each prepared voxel; a row sums to 1, or to 0 in air.
        inside: First prepared voxel whose middle lies in the box, and the one after the last; the others are air.
        span: What the prepared voxels cover, in voxels of the box.
    """

    weights: AxisWeights
    inside: tuple[int, int]
    span: tuple[float, float]


def axis_grids(box: Box, size: Shape3, spacing_mm: Millimetres3, target_mm: Millimetres3 | None) -> list[AxisGrid]:
    """Lay `size` voxels over `box`: so that they fill it, or `target_mm` apart around its middle.

    Args:
        box: Part of the source that is taken.
        size: Voxels of the prepared volume along (Z, H, W).
        spacing_mm: Of the source along (Z, H, W), millimetres.
        target_mm: Of the prepared volume; None fills the box.
    """
    counts = [box[2 * axis + 1] - box[2 * axis] for axis in range(3)]
    if target_mm is None:
        return [
            AxisGrid(axis_weights(count, target), (0, target), (0.0, float(count)))
            for count, target in zip(counts, size, strict=True)
        ]
    steps = [target / source for target, source in zip(target_mm, spacing_mm, strict=True)]
    return [_spaced(count, step, target) for count, step, target in zip(counts, steps, size, strict=True)]


def grid_span(box: Box, grids: list[AxisGrid]) -> Span:
    """Return what the prepared volume covers, in source voxels."""
    z, h, w = [(box[2 * axis] + grid.span[0], box[2 * axis] + grid.span[1]) for axis, grid in enumerate(grids)]
    return (*z, *h, *w)


def _spaced(source: int, step: float, target: int) -> AxisGrid:
    """`target` voxels of `step` source voxels each, in the middle of the source axis."""
    start = (source - step * target) / 2
    lows = start + step * np.arange(target)
    middles = lows + step / 2
    inside = np.flatnonzero((middles >= -_ROUNDING) & (middles <= source + _ROUNDING))
    if inside.size == 0:  # the box is thinner than one voxel, whose two middle ones lie just outside of it
        inside = np.array([target // 2])
    weights = np.zeros((target, source), dtype=np.float64)
    index = np.arange(source)
    for row in inside:
        if step >= 1:
            overlap = np.minimum(lows[row] + step, index + 1) - np.maximum(lows[row], index)
            weights[row] = np.where(overlap > _ROUNDING, overlap, 0.0)
        else:
            middle = np.clip(middles[row] - 0.5, 0, source - 1)
            weights[row] = np.clip(1.0 - np.abs(middle - index), 0.0, None)
    weights[inside] /= weights[inside].sum(axis=1, keepdims=True)
    ends = (int(inside[0]), int(inside[-1]) + 1)
    return AxisGrid(weights.astype(np.float32), ends, (start, start + step * target))
