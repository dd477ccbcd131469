"""Checks that an array holds Hounsfield units and turns it into int16.

Formats other than DICOM don't say what their numbers mean, so their values have to.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from voco2d.errors import ReadError
from voco2d.io.spool import fill, planes
from voco2d.types import HuVolume

HU_FLOOR = -1024
"""Air at the foot of the usual scale; lower values are padding outside the field of view and are raised to it."""

WINDOWED_HU = (-150.0, 250.0)
"""HU window (abdominal soft tissue, centre 50, width 400) assumed for 8-bit values whose window nobody stored."""

_FEW_VALUES = 32
_LABEL_VALUES = 256
_LABEL_SAME_NEIGHBOUR = 0.6
_SAMPLE = 4_000_000
_BRIGHT_HU = 4000
_BRIGHT_SHARE = 0.01
_BONE_HU = (300, 800, 1300)
_HARD_SHARE = 0.08
"""Of hard bone, the upper part of `_BONE_HU`, real scans have 2 % at most, and more of the softer kind in the lower
part; with 1024 added they have 6 to 60 % there, and less below."""


def to_int16(hu: Shaped[np.ndarray, "Z H W"]) -> HuVolume:
    """Round to int16, with values below `HU_FLOOR` raised to it and values above int16's range lowered to it."""
    return _by_plane(hu, lambda plane: np.rint(plane) if hu.dtype.kind == "f" else plane)


def from_window(values: Shaped[np.ndarray, "Z H W"], top: float, window_hu: tuple[float, float]) -> HuVolume:
    """Map values 0…`top` linearly to the HU window (low, high) they were made with."""
    low, high = window_hu
    slope = np.float32((high - low) / top)
    return _by_plane(values, lambda plane: np.rint(plane.astype(np.float32) * slope + np.float32(low)))


def refuse_unreal(array: Shaped[np.ndarray, "..."], path: Path) -> None:
    """Refuse values that are not real finite numbers.

    Raises:
        ReadError: For colours, complex numbers or text, and for NaN or infinite voxels, with their count.
    """
    if array.dtype.kind not in "iufb":
        raise ReadError(path, f"voxels of type {array.dtype} are not Hounsfield units; store one number a voxel")
    if array.dtype.kind == "f":
        bad = sum(part.size - int(np.count_nonzero(np.isfinite(part))) for part in planes(array))
        if bad:
            raise ReadError(
                path, f"{bad} of {array.size} voxels are NaN or infinite; set them to {HU_FLOOR} (air) and save again"
            )


def guess_hounsfield(
    array: Shaped[np.ndarray, "Z H W"], path: Path, windowed_hu: tuple[float, float] | None = WINDOWED_HU
) -> tuple[HuVolume, tuple[str, ...]]:
    """Turn values of unknown meaning into HU, where they can be HU or a windowed 8-bit picture of them.

    Args:
        array: Voxels.
        path: Named in the error.
        windowed_hu: Accept values 0…255 as this window, with a note; not at all when None.

    Returns:
        The HU array and the notes on it.

    Raises:
        ReadError: For NaN, label maps, constant arrays and ranges that no CT has.
    """
    refuse_unreal(array, path)
    ends = [(float(plane.min()), float(plane.max())) for plane in planes(array)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if low == high:
        raise ReadError(path, f"every voxel is {low:g}; there is no image in it")
    if is_label_map(array):
        raise ReadError(path, "label map, not a CT volume; give the image it belongs to")
    if low >= 0 and 127 < high <= 255 and windowed_hu is not None:
        note = f"windowed: values 0 to 255 taken as a window of {windowed_hu[0]:g} to {windowed_hu[1]:g} HU"
        return from_window(array, 255.0, windowed_hu), (note,)
    _refuse_implausible(array, low, high, path)
    return to_int16(array), ()


def is_label_map(array: Shaped[np.ndarray, "Z H W"]) -> bool:
    """Say whether the values are class numbers: few, integer, not negative, and mostly like their neighbours.

    A windowed 8-bit CT has as few values, but noise makes neighbours differ.
    """
    if any(plane.min() < 0 for plane in planes(array)):
        return False
    distinct = np.unique(_sample(array))
    if len(distinct) > _LABEL_VALUES or np.any(distinct != np.rint(distinct)):
        return False
    return len(distinct) <= _FEW_VALUES or _same_neighbour_share(array) >= _LABEL_SAME_NEIGHBOUR


def _same_neighbour_share(array: Shaped[np.ndarray, "Z H W"]) -> float:
    """Share of non-zero voxels that equal the next one, the median of the three axes."""
    shares = []
    thinned = array[:: max(1, array.shape[0] * array[:1].size // _SAMPLE)] if array.size > 2 * _SAMPLE else array
    for axis in range(3):
        lined = np.moveaxis(thinned if axis else _middle(array), axis, 0)
        inside = lined[1:] != 0
        same = int(np.count_nonzero((lined[1:] == lined[:-1]) & inside))
        shares.append(same / max(1, int(np.count_nonzero(inside))))
    return float(np.median(shares))


def _sample(array: Shaped[np.ndarray, "Z H W"]) -> Shaped[np.ndarray, " some"]:
    """Some millions of evenly spread voxels at most; flattening a turned array would copy it whole."""
    step = math.ceil((array.size / _SAMPLE) ** (1 / 3))
    return array[::step, ::step, ::step].reshape(-1)


def _middle(array: Shaped[np.ndarray, "Z H W"]) -> Shaped[np.ndarray, "few H W"]:
    """Neighbouring slices from the middle, about as many voxels as are looked at."""
    depth = array.shape[0]
    few = max(2, min(depth, _SAMPLE // max(1, array[:1].size)))
    start = (depth - few) // 2
    return array[max(0, start) : max(0, start) + few]


def _by_plane(values: Shaped[np.ndarray, "Z H W"], turn: Callable[[np.ndarray], np.ndarray]) -> HuVolume:
    """Turn slice by slice, so that no copy of the whole volume but the result is ever made."""
    turned = (np.clip(turn(plane), HU_FLOOR, np.iinfo(np.int16).max) for plane in planes(values))
    return fill((values.shape[0], values.shape[1], values.shape[2]), turned)


def _refuse_implausible(array: Shaped[np.ndarray, "Z H W"], low: float, high: float, path: Path) -> None:
    span = f"values from {low:g} to {high:g} are not Hounsfield units"
    if low >= 0:
        raise ReadError(path, f"{span} (air is about -1000, fat -100); undo the normalisation or the offset")
    if high <= 1:
        raise ReadError(path, f"{span} (soft tissue is about 50); undo the normalisation")
    flat = _sample(array)
    if np.count_nonzero(flat > _BRIGHT_HU) > _BRIGHT_SHARE * flat.size:
        raise ReadError(path, f"{span} (over {_BRIGHT_SHARE:.0%} of the voxels lie above {_BRIGHT_HU})")
    soft, hard, hardest = _BONE_HU
    softer, harder = (np.count_nonzero((flat > ends[0]) & (flat < ends[1])) for ends in ((soft, hard), (hard, hardest)))
    if harder > _HARD_SHARE * flat.size and harder > 2 * softer:
        where = f"over {_HARD_SHARE:.0%} of the voxels lie between {hard} and {hardest}, as only hard bone does"
        raise ReadError(path, f"{span} ({where}); undo the offset")
