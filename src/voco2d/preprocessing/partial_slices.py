"""Slices that are partly black: rows or sectors without any data, as some series have at their ends."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int16
from scipy import ndimage

from voco2d.io.spool import lowest, release
from voco2d.types import HuVolume

_COARSE_PIXELS = 256
_FLOOR_HU = -1024
_HIGHEST_FLOOR_HU = -1000
_BODY_HU = -500
_MISSING_SHARE = 0.05
_INSIDE_SHARE = 16
_SAME_HU = 200
_SAME_SHARE = 0.5
_MAX_DROPPED_SHARE = 0.25
_RELEASE_EVERY = 64
_MOST_CANDIDATES = 64

_Plane: TypeAlias = Int16[np.ndarray, "H W"]
_Mask: TypeAlias = Bool[np.ndarray, "H W"]
_Coarse: TypeAlias = Int16[np.ndarray, "h w"]
_CoarseMask: TypeAlias = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class PartialSlices:
    """Where a volume is partly black.

    Args:
        ends: First slice kept and the one after the last, if those at the ends are dropped.
        dropped: Partly black slices before and after `ends`.
        inside: Partly black slices between whole ones, which nobody should drop.
    """

    ends: tuple[int, int]
    dropped: int
    inside: int


def find_partial_slices(hu: HuVolume) -> PartialSlices:
    """Find partly black slices by holding each against the nearest whole slice on the way to the middle.

    A slice is partly black where at least 5 % of the neighbour's inner body is exactly at the floor of the volume
    (the padding, at most −1024 HU), this black reaches the border of the image, and the tissue goes on unchanged right
    up to it: a body that merely ends or grows thinner has skin there, and gas is not cut off so. Wholly black slices
    outside partly black ones go with them. Where more than a quarter of the volume would go at one end, something
    else is wrong, and none of that end goes.

    Args:
        hu: (Z, H, W) int16 Hounsfield units.
    """
    depth = hu.shape[0]
    floor = lowest(hu, _FLOOR_HU)
    if floor > _HIGHEST_FLOOR_HU or depth < 2:
        return PartialSlices((0, depth), 0, 0)  # air was cut off by a window, so black says nothing
    floor = max(floor, _FLOOR_HU)
    step = max(1, round(min(hu.shape[1:]) / _COARSE_PIXELS))
    middle = _fullest(hu, step, floor)
    release(hu)
    first, before = _end(hu, range(middle, -1, -1), step, floor)
    last, after = _end(hu, range(middle, depth), step, floor)
    dropped = sum(z < first or z > last for z in (*before, *after))
    return PartialSlices((first, last + 1), dropped, len(before) + len(after) - dropped)


def _fullest(hu: HuVolume, step: int, floor: int) -> int:
    """Of the middle half, or 64 to 127 slices evenly spread over it, the slice with the fewest black pixels."""
    depth = hu.shape[0]
    candidates = range(depth // 4, max(depth // 4 + 1, depth - depth // 4), max(1, depth // 2 // _MOST_CANDIDATES))
    black = [int(np.count_nonzero(hu[z, ::step, ::step] <= floor)) for z in candidates]
    return candidates[min(range(len(black)), key=lambda i: (black[i], abs(2 * candidates[i] - depth)))]


def _end(hu: HuVolume, outward: range, step: int, floor: int) -> tuple[int, list[int]]:
    """Return the last slice to keep on the way outward, and all partly black ones."""
    kept = outward[0]
    whole = _Whole.of(hu[kept], step)
    partial: list[int] = []
    for z in outward[1:]:
        if z % _RELEASE_EVERY == 0:
            release(hu)
        coarse = np.ascontiguousarray(hu[z, ::step, ::step])
        black = coarse <= floor
        if black.all():
            continue
        if _is_partial(hu[z], black, whole, step, floor):
            partial.append(z)
        else:
            whole, kept = _Whole.of(hu[z], step, coarse), z
    outside = [z for z in partial if (z - kept) * outward.step > 0]
    if not outside or abs(outward[-1] - kept) > _MAX_DROPPED_SHARE * hu.shape[0]:
        return outward[-1], partial
    return kept, partial


@dataclass(frozen=True)
class _Whole:
    """The nearest whole slice: as it is, on the coarse grid, and where its body is there."""

    plane: _Plane
    coarse: _Coarse
    body: _CoarseMask
    area: int

    @classmethod
    def of(cls, plane: _Plane, step: int, coarse: _Coarse | None = None) -> "_Whole":
        coarse = plane[::step, ::step] if coarse is None else coarse
        body = coarse > _BODY_HU
        return cls(plane, coarse, body, int(np.count_nonzero(body)))


def _is_partial(plane: _Plane, black: _CoarseMask, whole: _Whole, step: int, floor: int) -> bool:
    missing = int(np.count_nonzero(whole.body & black))
    if missing == 0 or missing < _MISSING_SHARE * whole.area:
        return False
    inside = _inside(whole.body)
    reaching = _reaching_border(black)
    black_inside = int(np.count_nonzero(reaching & inside & (whole.coarse > floor)))
    if black_inside < _MISSING_SHARE * max(1, int(np.count_nonzero(inside))):
        return False
    fine = inside.repeat(step, 0).repeat(step, 1)[: plane.shape[0], : plane.shape[1]]
    return _cut_off(plane, whole.plane, fine, floor)


def _inside(body: _Mask) -> _Mask:
    """The largest component with its holes, without a rim of 1/16 of its width in which a body may end."""
    labels, count = ndimage.label(body)
    if count == 0:
        return body
    largest = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))
    rows, columns = ndimage.find_objects(largest.astype(np.int8))[0]
    rim = max(1, min(rows.stop - rows.start, columns.stop - columns.start) // _INSIDE_SHARE)
    eroded: _Mask = ndimage.binary_erosion(largest, iterations=rim, border_value=1)
    return eroded


def _reaching_border(black: _Mask) -> _Mask:
    labels, _ = ndimage.label(black)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    reached: _Mask = np.isin(labels, border[border > 0])
    return reached


def _cut_off(plane: _Plane, whole: _Plane, inside: _Mask, floor: int) -> bool:
    """Whether the pixels next to the black are mostly what they are in the whole slice."""
    edge = ndimage.binary_dilation(plane <= floor) & (plane > floor) & inside & (whole > floor)
    if not edge.any():
        return True
    same = np.abs(plane[edge].astype(np.int32) - whole[edge]) < _SAME_HU
    return float(same.mean()) >= _SAME_SHARE
