"""Memory for the large maps of a training on a CPU, kept from step to step.

The C library maps and clears new pages for each large tensor, which costs up to a third of a step; told to keep them,
it scatters small and lasting tensors among the large ones, so that a step takes more memory. Here maps lie in a region
of their own. They are made on the way forward and given back in the opposite order, so that first fit leaves few holes.
"""

import bisect
import contextlib
import ctypes
import mmap
import os
import sys
import threading
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SMALLEST = 1 << 20
"""Bytes below which a tensor is left to torch."""
_PAGE = 1 << 12
_FLOAT = 4
_NO_RESERVE = 0x4000
"""MAP_NORESERVE of Linux: the region counts by what is written to; Python 3.11 has no name for it."""


def empty(*shape: int) -> Tensor:
    """Return an uninitialised float32 tensor like `torch.empty`; a large one lies in this process's arena."""
    size = prod(shape) * _FLOAT
    arena = _arena() if size >= _SMALLEST else None
    taken = None if arena is None else arena.take(size)
    return torch.empty(shape) if taken is None else taken.view(shape)


def empty_like(tensor: Tensor) -> Tensor:
    """Return `empty` of a tensor's shape."""
    return empty(*tensor.shape)


def release() -> None:
    """Give the pages that no tensor uses back to the system."""
    if _arena.cache_info().currsize and (arena := _arena()) is not None:
        arena.release()


class Arena:
    """A region of addresses whose pages are taken when first written to, and then kept.

    Args:
        size: Bytes of the region.

    Raises:
        OSError: The system gives no such region.
    """

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._free = [(0, size)]
        self._lock = threading.Lock()

    @property
    def free(self) -> list[tuple[int, int]]:
        """Free ranges of bytes, in order; no two touch."""
        return list(self._free)

    def take(self, size: int) -> Tensor | None:
        """Return `size` bytes as a float32 vector; None where so many are not left.

        They are given back when no tensor refers to them any more.
        """
        length = -(-size // _PAGE) * _PAGE
        with self._lock:
            index = next((place for place, (start, stop) in enumerate(self._free) if stop - start >= length), None)
            if index is None:
                return None
            start, stop = self._free[index]
            self._free[index : index + 1] = [(start + length, stop)] if start + length < stop else []
        lease = _Lease(self, self._address + start, start, start + length, size // _FLOAT)
        return torch.from_numpy(np.asarray(lease))

    def give_back(self, start: int, stop: int) -> None:
        """Take back a range of bytes."""
        with self._lock:
            index = bisect.bisect(self._free, (start, stop))
            first = last = index
            if index < len(self._free) and self._free[index][0] == stop:
                stop, last = self._free[index][1], index + 1
            if index > 0 and self._free[index - 1][1] == start:
                start, first = self._free[index - 1][0], index - 1
            self._free[first:last] = [(start, stop)]

    def release(self) -> None:
        """Give the pages of free ranges back to the system; they are taken anew when written to."""
        with self._lock:
            for start, stop in self._free:
                self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)


class _Lease:
    """A range of an arena, as NumPy sees it; what is made of it keeps it alive."""

    def __init__(self, arena: Arena, address: int, start: int, stop: int, count: int) -> None:
        self._arena, self._range = arena, (start, stop)
        self.__array_interface__: dict[str, Any] = {
            "data": (address, False),
            "shape": (count,),
            "typestr": np.dtype(np.float32).str,
            "version": 3,
        }

    def __del__(self) -> None:
        self._arena.give_back(*self._range)


@cache
def _arena() -> Arena | None:
    """Return the arena of this process, as large as the machine's memory; None where the system gives none."""
    if sys.platform != "linux":
        return None
    try:
        return Arena(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError):
        return None
