"""Resizing, cropping and choosing slices: where a voxel of a prepared volume comes from."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, Num
from scipy import sparse

from voco2d.preprocessing.body import Box, body_box
from voco2d.types import Shape3

__all__ = [
    "AxisWeights",
    "Box",
    "axis_weights",
    "body_box",
    "centre_crop",
    "evenly_spaced",
    "resize_area",
    "resized_slices",
    "weighted_slices",
]


@runtime_checkable
class Sliceable(Protocol):
    """What a NumPy array and a torch tensor have in common here."""

    @property
    def shape(self) -> Any:
        """Sizes of the axes."""

    def __getitem__(self, index: Any, /) -> Any: ...


Array = TypeVar("Array", bound=Sliceable)

AxisWeights: TypeAlias = Float32[np.ndarray, "_ _"]
"""(target, source) share of each source voxel of one axis in each voxel afterwards."""


def evenly_spaced(total: int, count: int) -> Int64[np.ndarray, " count"]:
    """Choose the middle one of each of `count` equal parts of `total` slices; indices repeat where count > total.

    Returns:
        Rising indices 0…total − 1.

    Raises:
        ValueError: There is nothing to choose, or nothing is asked for.
    """
    if total < 1 or count < 1:
        raise ValueError(f"can't choose {count} of {total} slices; both must be at least 1")
    return (2 * np.arange(count, dtype=np.int64) + 1) * total // (2 * count)


def centre_crop(x: Array, size: int) -> Array:
    """Cut `size` × `size` pixels from the middle of the last two axes.

    Args:
        x: (..., H, W) NumPy array or torch tensor.
        size: Side of the crop, pixels.

    Returns:
        (..., size, size), a view. Odd remainders leave the larger part at the end.

    Raises:
        ValueError: `x` is smaller than the crop.
    """
    height, width = x.shape[-2:]
    if size > min(height, width) or size < 1:
        raise ValueError(f"can't crop {size} × {size} from {height} × {width} pixels; choose a smaller crop")
    top, left = (height - size) // 2, (width - size) // 2
    cropped: Array = x[..., top : top + size, left : left + size]
    return cropped


def resize_area(array: Num[np.ndarray, "Z H W"], size: Shape3) -> Float32[np.ndarray, "Z2 H2 W2"]:
    """Resize each axis by area where it shrinks and linearly where it grows.

    Constants stay constant, and shrinking by a whole number keeps the mean.

    Args:
        array: (Z, H, W) numbers of any type.
        size: Voxels along (Z, H, W) afterwards.
    """
    resized = np.empty(size, dtype=np.float32)
    for z, plane in enumerate(resized_slices(array, size)):
        resized[z] = plane
    return resized


def resized_slices(
    array: Num[np.ndarray, "Z H W"], size: Shape3, limits: tuple[int, int] | None = None
) -> Iterator[Float32[np.ndarray, "H2 W2"]]:
    """Yield the slices of `resize_area` one by one, so that only a few source slices are held as float32.

    Args:
        array: (Z, H, W) numbers of any type.
        size: Voxels along (Z, H, W) afterwards.
        limits: Source values are limited to this range before they are averaged.
    """
    depth, rows, columns = (axis_weights(source, target) for source, target in zip(array.shape, size, strict=True))
    return weighted_slices(array, (depth, rows, columns), limits)


def weighted_slices(
    array: Num[np.ndarray, "Z H W"],
    weights: tuple[AxisWeights, AxisWeights, AxisWeights],
    limits: tuple[int, int] | None = None,
) -> Iterator[Float32[np.ndarray, "H2 W2"]]:
    """Yield slice by slice the weighted sums of source voxels along (Z, H, W); `limits` as in `resized_slices`."""
    # A row holds few shares that are not 0: sparse products take a quarter of the time of dense ones.
    rows, columns = sparse.csr_array(weights[1]), sparse.csr_array(weights[2])
    part = np.empty(array.shape[1:], dtype=np.float32)
    for shares in weights[0]:
        plane = np.zeros(array.shape[1:], dtype=np.float32)
        for z in np.flatnonzero(shares):
            source = array[z] if limits is None else np.clip(array[z], *limits)
            np.multiply(source, shares[z], out=part, casting="unsafe")
            plane += part
        yield np.ascontiguousarray((columns @ np.ascontiguousarray((rows @ plane).T)).T)


def axis_weights(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    """Weights that resize one axis; each row sums to 1.

    Output i covers the source interval [i, i + 1) × source / target. Shrinking averages what lies in it, by the
    length of the overlap; growing interpolates linearly at its middle, the borders being repeated.
    """
    if source < 1 or target < 1:
        raise ValueError(f"can't resize an axis from {source} to {target}; both must be at least 1")
    step = source / target
    index = np.arange(source)
    starts = np.arange(target)[:, None] * step
    if target <= source:
        weights = np.clip(np.minimum(starts + step, index + 1) - np.maximum(starts, index), 0.0, None)
        weights[weights < 1e-9] = 0.0  # rounding of i × step would otherwise pull in a further slice
    else:
        middles = np.clip(starts + step / 2 - 0.5, 0, source - 1)
        weights = np.clip(1.0 - np.abs(middles - index), 0.0, None)
    shares: Float32[np.ndarray, "target source"] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
