"""Puts a case on the disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corpus import OUTSIDE, Fifo, Files, Link, Sparse


@contextmanager
def planted(files: Files, sound: Files) -> Iterator[Path]:
    """Write `files` into a new folder, and where one of them is a link, `sound` into a folder beside it."""
    root = Path(tempfile.mkdtemp(prefix="mutation-"))
    try:
        if any(isinstance(entry, Link) for entry in files.values()):
            plant(sound, root / "beside", root / "beside")
        plant(files, root / "input", root / "beside")
        yield root / "input"
    finally:
        shutil.rmtree(root)


def plant(files: Files, folder: Path, outside: Path) -> None:
    """Write a case into a folder.

    Args:
        files: What to write.
        folder: Where; made if it is not there.
        outside: What `OUTSIDE` stands for in the target of a link.
    """
    folder.mkdir(exist_ok=True)
    for name, entry in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            path.symlink_to(entry.target.replace(OUTSIDE, str(outside)))
        elif isinstance(entry, Fifo):
            os.mkfifo(path)
        elif isinstance(entry, Sparse):
            path.write_bytes(entry.start)
            os.truncate(path, entry.size)
        else:
            path.write_bytes(entry)
