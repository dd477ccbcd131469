"""One process at a time in a folder."""

import fcntl
from pathlib import Path
from typing import IO

from voco2d.errors import UsageError


def hold(path: Path, refusal: str) -> IO[str]:
    """Make a file and hold it until what is returned is closed, or the process ends however it does.

    Args:
        path: The file; its folder exists.
        refusal: Said where another process holds it.

    Raises:
        UsageError: Another process holds it.
        OSError: The file can't be made.
    """
    lock = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UsageError(refusal) from error
    return lock
