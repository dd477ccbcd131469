"""What is said when memory runs out, with the setting that lowers it; and what the collector need not look through."""

import atexit
import errno
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from voco2d.errors import DeviceMemoryError

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
"""Parts of what torch and CUDA's libraries say in errors that have no class of their own, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory has run out, the machine's or a GPU's.

    Python and NumPy raise MemoryError, maps an OSError, torch on a GPU its OutOfMemoryError, and on a CPU, for pinned
    memory and in CUDA's libraries a plain RuntimeError.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in words for sign in _SIGNS))


@contextmanager
def enough_memory(during: str, way_out: str) -> Iterator[None]:
    """Turn every way of saying that memory has run out into one sentence.

    Args:
        during: What was being done, as in `in a step`.
        way_out: Which setting lowers it, and to what.

    Raises:
        DeviceMemoryError: Memory has run out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"memory has run out {during}; {way_out}") from error


def freeze_loaded() -> None:
    """Keep what is loaded out of the garbage collector's way until the process ends.

    Looking through networks and libraries again and again takes a tenth of the time of grading a study. At the end all
    is collected as ever: some libraries complain of what is left.
    """
    gc.freeze()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
