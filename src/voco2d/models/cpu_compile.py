"""How the loops of `cpu_kernels` and `cpu_depthwise` are compiled."""

from collections.abc import Callable
from typing import Any

from numba import njit

JIT: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc", "arcp", "nsz"}, "error_model": "numpy"}
"""Other Python threads run meanwhile. NaN and infinity stay what they are: the training loop looks for them."""


def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Return a loop that is compiled when first called.

    The machine code is kept for later processes, beside the package or in the user's cache folder; where neither can be
    written, each process compiles anew.
    """
    try:
        kept: Callable[..., None] = njit(cache=True, **JIT)(loop)
    except RuntimeError:  # numba's "no locator available"
        kept = njit(**JIT)(loop)
    return kept
