"""How the C library gives memory back, which costs a training on a CPU up to a third of its time."""

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of settings in glibc's malloc.h."""
_NEVER = -1


def keep_freed_memory(largest: int = 1 << 25) -> bool:
    """Let glibc keep freed blocks for the next step, rather than map and clear new pages for each large tensor.

    Blocks above `largest` bytes still go back at once, so that few huge maps don't leave holes. Other C libraries are
    left as they are.

    Args:
        largest: Largest block that is kept, bytes, below 2 GiB.

    Returns:
        Whether the settings were taken.
    """
    set_option = _from_c_library("mallopt")
    if set_option is None:
        return False
    return bool(set_option(_MMAP_THRESHOLD, largest)) and bool(set_option(_TRIM_THRESHOLD, _NEVER))


def release_freed_memory() -> None:
    """Let glibc give the blocks it has kept back to the system; other C libraries are left as they are."""
    trim = _from_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _from_c_library(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
