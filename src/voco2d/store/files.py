"""Reading, writing and listing files of a store, here or behind a URL, so that no half one is ever seen.

On this machine a file is written under a temporary name, flushed to disk and renamed. Behind a URL it is handed over
whole in one call, which object stores show only once it is complete.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from voco2d.errors import StoreError
from voco2d.store.location import Location

_TEMPORARY = ".tmp"
_ABANDONED_SECONDS = 3600.0
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss")
"""They have no folders, and making one there would make a bucket that was only misspelt."""
_READERS = 32
"""Reads at once from a remote file system: each waits for the network, not for this machine."""


@runtime_checkable
class ByteSink(Protocol):
    """Whatever bytes can be written to."""

    def write(self, data: Any, /) -> int:
        """Write bytes or a buffer and return how many."""
        ...


def write_atomically(path: Location, write: Callable[[ByteSink], object]) -> int:
    """Let `write` fill a file that appears at `path` only once it is whole.

    Returns:
        Its size in bytes.

    Raises:
        OSError: Writing failed; `path` is what it was, and the temporary file is gone.
    """
    if not isinstance(path, Path):
        content = BytesIO()
        write(content)
        with _reached(path):
            path.fs.pipe_file(path.path, content.getvalue())
        return content.tell()
    temporary = path.with_name(f".{path.name}.{_process_table()}-{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


def write_if_changed(path: Location, content: bytes) -> None:
    """Write `content` atomically unless the file holds it already."""
    if read_file(path) != content:
        write_atomically(path, lambda file: file.write(content))


def read_file(path: Location) -> bytes | None:
    """Return what a file holds, or None where there is none.

    Raises:
        OSError: It is there and can't be read.
    """
    try:
        if isinstance(path, Path):
            return path.read_bytes() if path.is_file() else None
        with _reached(path):
            content: bytes = path.fs.cat_file(path.path)
            return content
    except FileNotFoundError:
        return None


def read_files(paths: Sequence[Location]) -> Iterator[tuple[Location, bytes | None]]:
    """Yield each path with what it holds, or None where it can't be read; remote ones are read side by side."""
    if not paths or isinstance(paths[0], Path):
        yield from ((path, _read_or_none(path)) for path in paths)
        return
    with ThreadPoolExecutor(_READERS) as pool:
        yield from zip(paths, pool.map(_read_or_none, paths), strict=True)


def remove_file(path: Location) -> None:
    """Delete a file if it is there.

    Raises:
        OSError: It can't be deleted.
    """
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return
    try:
        with _reached(path):
            path.fs.rm_file(path.path)
    except FileNotFoundError:
        return


def list_files(folder: Location, ending: str = "") -> dict[str, tuple[int, str]]:
    """List the visible files of a folder whose names end with `ending`.

    Returns:
        Name → size in bytes and a mark that changes with the content (time of change, or the file system's tag),
        sorted by name; empty where there is no such folder.

    Raises:
        OSError: The folder can't be listed.
    """
    found: dict[str, tuple[int, str]] = {}
    try:
        for name, size, mark in _local_entries(folder) if isinstance(folder, Path) else _remote_entries(folder):
            if name.endswith(ending) and not name.startswith("."):
                found[name] = (size, mark)
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def make_folder(folder: Location) -> None:
    """Create a folder with its parents and remove what killed runs left half written in it.

    That is: temporary files of processes of this machine that are gone, and any that are over an hour old.
    """
    if not isinstance(folder, Path):
        if folder.protocol not in _OBJECT_STORES:
            with _reached(folder):
                folder.fs.makedirs(folder.path, exist_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        if _is_abandoned(leftover):
            leftover.unlink(missing_ok=True)


@contextmanager
def write_failures(root: Location, way_out: str) -> Iterator[None]:
    """Turn a failed write below `root` into a StoreError that ends with `way_out`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"can't write there: {error.strerror or error}"
        raise StoreError(f"{root}: {what}; {way_out}") from error


@contextmanager
def _reached(path: Location) -> Iterator[None]:
    """Turn whatever a remote file system raises into an OSError that can be pickled and quotes nothing of it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None or isinstance(error, FileNotFoundError):
            raise
        raise OSError(errno.EIO, f"{type(error).__name__} of the remote file system", str(path)) from error
    except Exception as error:  # each file system has errors of its own: no credentials, no connection, no bucket
        raise OSError(errno.EIO, f"{type(error).__name__} of the remote file system", str(path)) from error


def _read_or_none(path: Location) -> bytes | None:
    try:
        return read_file(path)
    except OSError:
        return None


def _local_entries(folder: Path) -> Iterator[tuple[str, int, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file():
                    status = entry.stat()
                    yield entry.name, status.st_size, str(status.st_mtime_ns)
            except FileNotFoundError:  # another run removed it in this moment
                continue


def _remote_entries(folder: Any) -> Iterator[tuple[str, int, str]]:
    with _reached(folder):
        folder.fs.invalidate_cache()
        entries: list[dict[str, Any]] = folder.fs.ls(folder.path, detail=True)
    for entry in entries:
        if entry["type"] == "file":
            marks = [entry.get(name) for name in ("ETag", "etag", "md5", "mtime", "created", "LastModified")]
            yield str(entry["name"]).rstrip("/").rpartition("/")[2], int(entry["size"] or 0), str(marks)


def _is_abandoned(temporary: Path) -> bool:
    try:
        old = time.time() - temporary.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False
    table, _, rest = temporary.name.removesuffix(_TEMPORARY).rpartition(".")[2].partition("-")
    pid = rest.partition("-")[0]
    if old or not pid.isdecimal() or not table or table != _process_table():
        return old
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@cache
def _process_table() -> str:
    """Name the table in which process numbers count: this start of this machine, and its container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return blake2b((boot + str(Path("/proc/self/ns/pid").readlink())).encode(), digest_size=6).hexdigest()
    except OSError:
        return ""
