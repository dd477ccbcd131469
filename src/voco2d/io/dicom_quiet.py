"""Keeps pydicom, and highdicom above it, from telling what they find odd, since that may be an identifier."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.Lock()
_OPEN: list[contextlib.ExitStack] = []


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence them on odd values, as warnings and in the log: both quote those values, which may be identifiers.

    Threads may be in it at once: what it changes is the whole process', from the first that enters to the last that
    leaves.
    """
    with _LOCK:
        _OPEN.append(_silence() if not _OPEN else _OPEN[0])
    try:
        yield
    finally:
        with _LOCK:
            undo = _OPEN.pop()
            if not _OPEN:
                undo.close()


def _silence() -> contextlib.ExitStack:
    undo = contextlib.ExitStack()
    for name in ("pydicom", "highdicom"):
        log = logging.getLogger(name)
        undo.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL + 1)
    undo.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"pydicom|highdicom|pylibjpeg")
    return undo
