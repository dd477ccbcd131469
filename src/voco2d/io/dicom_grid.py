"""Brings slices onto a rectangular grid: a gantry tilt by shear, uneven distances by interpolation."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int16, Shaped

from voco2d.io.hounsfield import HU_FLOOR
from voco2d.io.spool import fill
from voco2d.types import HuVolume

_STILL_PIXELS = 0.02


def in_plane_offsets(
    positions_mm: Float[np.ndarray, "Z 3"], orientation: tuple[float, ...], spacing_mm: tuple[float, ...]
) -> Float[np.ndarray, "Z 2"]:
    """How far each slice's first pixel lies from the first slice's, along (rows, columns), in pixels.

    Args:
        positions_mm: LPS position of the first pixel of each slice.
        orientation: Unit vectors along which the column and then the row index increase (PS3.3 C.7.6.2.1.1).
        spacing_mm: Distance of rows, then of columns.
    """
    across, down = np.reshape(orientation, (2, 3))
    moved = positions_mm - positions_mm[0]
    return np.stack([moved @ down / spacing_mm[0], moved @ across / spacing_mm[1]], axis=1)


def shear(hu: HuVolume, offsets: Float[np.ndarray, "Z 2"]) -> tuple[Int16[np.ndarray, "Z H2 W2"], tuple[int, int]]:
    """Shift each slice in its plane, so that pixel (h, w) of all slices lies on one line along the slice normal.

    The grid grows so that nothing is cut off; what no slice covers is air. Shifts by parts of a pixel interpolate
    linearly. This undoes a gantry tilt: the slices keep their (tilted) orientation, the stack becomes rectangular.

    Args:
        hu: (Z, H, W) Hounsfield units.
        offsets: As `in_plane_offsets` gives them for these slices.

    Returns:
        The sheared volume, and how many rows and columns the grid begins before that of the first slice.
    """
    before = np.maximum(0, np.ceil(-offsets.min(axis=0) - _STILL_PIXELS)).astype(int)
    after = np.maximum(0, np.ceil(offsets.max(axis=0) - _STILL_PIXELS)).astype(int)
    depth, height, width = hu.shape
    grown = (depth, height + int(before[0] + after[0]), width + int(before[1] + after[1]))
    moved = (_in_place(hu[z], offsets[z] + before, grown[1:]) for z in range(depth))
    return fill(grown, moved, hu), (int(before[0]), int(before[1]))


def even_out(
    hu: HuVolume, heights_mm: Float[np.ndarray, " Z"], step_mm: float
) -> tuple[Int16[np.ndarray, "Z2 H W"], Float[np.ndarray, " Z2"]]:
    """Interpolate linearly along Z onto slices that stand `step_mm` apart.

    Args:
        hu: (Z, H, W) Hounsfield units.
        heights_mm: Falling positions of the slices along their normal.
        step_mm: Distance of the new slices; the first stays where it is, the last stands no lower than the old last.

    Returns:
        The new volume and the heights of its slices.
    """
    depths = heights_mm[0] - heights_mm
    count = int(np.floor(depths[-1] / step_mm + 1e-3)) + 1
    targets = np.arange(count) * step_mm
    even = fill((count, *hu.shape[1:]), _between(hu, depths, targets), hu)
    return even, heights_mm[0] - targets


def _in_place(
    plane: Int16[np.ndarray, "H W"], offset: Float[np.ndarray, "2"], size: tuple[int, int]
) -> Float[np.ndarray, "H2 W2"]:
    """A slice on a larger plane of air, `offset` pixels from its corner."""
    grown = np.full(size, HU_FLOOR, np.float32)
    whole = np.floor(offset + _STILL_PIXELS).astype(int)
    part = np.clip(offset - whole, 0.0, 1.0)
    top, left = int(whole[0]), int(whole[1])
    grown[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    for axis in (0, 1):
        if part[axis] > _STILL_PIXELS:
            grown = (1 - part[axis]) * grown + part[axis] * _moved_on(grown, axis)
    return np.rint(grown)


def _between(
    hu: HuVolume, depths: Float[np.ndarray, " Z"], targets: Float[np.ndarray, " Z2"]
) -> Iterator[Shaped[np.ndarray, "H W"]]:
    for target in targets:
        below = int(np.clip(np.searchsorted(depths, target, side="left"), 1, len(depths) - 1))
        share = float(np.clip((target - depths[below - 1]) / (depths[below] - depths[below - 1]), 0.0, 1.0))
        if share in (0.0, 1.0):
            yield hu[below - 1 + int(share)]
        else:
            yield np.rint((1 - share) * hu[below - 1].astype(np.float32) + share * hu[below].astype(np.float32))


def _moved_on(plane: Float[np.ndarray, "H W"], axis: int) -> Float[np.ndarray, "H W"]:
    """The plane one pixel further along `axis`, air coming in."""
    moved = np.full_like(plane, HU_FLOOR)
    if axis == 0:
        moved[1:] = plane[:-1]
    else:
        moved[:, 1:] = plane[:, :-1]
    return moved
