"""Arrays for volumes of any size: in memory while they are small, else on disk with few of their pages in memory."""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
from jaxtyping import Shaped

from voco2d.types import HuVolume, Shape3

IN_MEMORY_BYTES = 512 * 2**20
"""Larger arrays go to a temporary file in the folder that TMPDIR names; it vanishes with the array."""

RELEASED_BYTES = 64 * 2**20
"""So much of an array on disk stays in memory while it is walked over."""


def allocate(shape: Shape3, limit_bytes: int | None = None) -> HuVolume:
    """Make an int16 array of undefined content.

    Args:
        shape: Z, H, W.
        limit_bytes: Largest array held in memory; `IN_MEMORY_BYTES` when None.

    Raises:
        OSError: The temporary folder has no room for it.
    """
    size = prod(shape) * np.dtype(np.int16).itemsize
    if size <= (IN_MEMORY_BYTES if limit_bytes is None else limit_bytes):
        return np.empty(shape, np.int16)
    with tempfile.TemporaryFile(prefix="voco2d-") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a crash at a later write
        pages = mmap.mmap(file.fileno(), size)
    return np.frombuffer(pages, np.int16).reshape(shape)


def release(array: Shaped[np.ndarray, "..."]) -> None:
    """Let go of the resident pages of an array that lies on disk; its content stays. Others are left alone."""
    base = _mapping(array)
    if base is not None:
        with contextlib.suppress(OSError, ValueError):
            base.madvise(mmap.MADV_DONTNEED)


def planes(
    array: Shaped[np.ndarray, "Z H W"], every_bytes: int = RELEASED_BYTES
) -> Iterator[Shaped[np.ndarray, "H W"]]:
    """Yield the slices of a volume of any size one by one, letting go of those that were passed.

    Args:
        array: Z, H, W; in memory or from `allocate`.
        every_bytes: Pages are released each time so much has been walked over.
    """
    step = max(1, every_bytes // max(1, array[:1].nbytes))
    for z, plane in enumerate(array, start=1):
        yield plane
        if z % step == 0:
            release(array)


def fill(
    shape: Shape3,
    slices: Iterable[Shaped[np.ndarray, "H W"]],
    *walked: Shaped[np.ndarray, "..."],
    every_bytes: int = RELEASED_BYTES,
) -> HuVolume:
    """Write a volume slice by slice with few of its pages in memory.

    Args:
        shape: Z, H, W of what is allocated.
        slices: Up to Z slices of values that fit int16, from the first on.
        walked: Arrays that `slices` are made from; their pages are let go as well.
        every_bytes: Pages are released each time so much has been written.

    Returns:
        The slices that came.

    Raises:
        OSError: The temporary folder has no room for it.
    """
    volume = allocate(shape)
    step = max(1, every_bytes // max(1, volume[:1].nbytes))
    count = 0
    for plane in slices:
        volume[count] = plane
        count += 1
        if count % step == 0:
            for array in (volume, *walked):
                release(array)
    return volume[:count]


def lowest(array: Shaped[np.ndarray, "Z H W"], enough: int | None = None) -> int:
    """Smallest value of an integer volume of any size; or that of its first slices, once it is at most `enough`."""
    low: int | None = None
    for plane in planes(array):
        low = int(plane.min()) if low is None else min(low, int(plane.min()))
        if enough is not None and low <= enough:
            break
    if low is None:
        raise ValueError("a volume without slices has no smallest value")
    return low


def _mapping(array: Shaped[np.ndarray, "..."]) -> mmap.mmap | None:
    """The memory map under an array or view, if there is one that shares its pages with a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
        if isinstance(base, memoryview):
            base = base.obj
    return base if isinstance(base, mmap.mmap) else None
