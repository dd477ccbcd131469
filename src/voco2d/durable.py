"""Files that are there whole or not at all, also after a power cut."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file that appears at `path` once all of it is on the disk; an older one stays until then.

    Args:
        path: The file; its folder exists.
        write: Takes the name of a temporary file in the same folder.

    Raises:
        OSError: Writing failed; `path` is what it was, and the temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        rights = S_IMODE(temporary.stat().st_mode)  # as the umask leaves them, to which not every writer keeps
        write(temporary)
        temporary.chmod(rights)
        to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder can't be opened
        with suppress(OSError):  # some network mounts refuse it for a folder; the file itself is on the disk
            to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk.

    Raises:
        OSError: They can't be brought there.
    """
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
