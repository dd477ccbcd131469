"""Keeps pydicom from telling what it finds odd, since that may be an identifier."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom on odd values, as warnings and in its log: both quote those values, which may be identifiers."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pydicom|pylibjpeg")
            yield
    finally:
        log.setLevel(level)
