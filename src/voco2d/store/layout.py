"""Where things lie in a store, how a volume is named, and how files are written so that no half one is ever seen.

- `store.json`: format version, settings, hash of the settings
- `volumes/<key>.npy`: a prepared volume, int16 (Z, H, W)
- `records/<key>.json`: a volume's index row, source hash and left-out files; written after its `.npy`
- `refused/<identity>.json`: a source that is no CT volume, its reason and source hash
- `index.parquet`: the records as one table
- `quarantine.csv`: path and reason of everything that was left out
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from voco2d.errors import StoreError
from voco2d.io.numpy_array import sidecar_path
from voco2d.io.source import Source

SETTINGS = "store.json"
INDEX = "index.parquet"
QUARANTINE = "quarantine.csv"
VOLUMES = "volumes"
RECORDS = "records"
REFUSED = "refused"

_TEMPORARY = ".tmp"
_ABANDONED_SECONDS = 3600.0


def volume_key(patient_id: str, series_id: str, identity: str) -> str:
    """Name a volume by a hash that keeps any two series apart and shows no identifier, since messages name files.

    Args:
        patient_id: May hold anything, also path separators.
        series_id: The same.
        identity: `source_identity` of where it came from.

    Returns:
        "s-" and 16 hexadecimal digits.
    """
    return f"s-{_digest(patient_id, series_id, identity, size=8)}"


def absolute(path: Path | str) -> Path:
    """Make a path comparable. Links are not followed: a data manager may point the same name at new content."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links


def source_identity(source: Source) -> str:
    """Hash of where a source is: its absolute path and its series. A moved source is another one."""
    part = (f"{source.part[0]}/{source.part[1]}",) if source.part[1] > 1 else ()
    return _digest(str(absolute(source.path)), source.series_id or "", *part)


def source_fingerprint(source: Source) -> str:
    """Hash of what a source is, without opening it: relative name, size and modification time of each file.

    Raises:
        OSError: A file can't be looked at.
    """
    parts = []
    for path in (*source.files, *_companions(source)):
        status = path.stat()
        parts.append(f"{os.path.relpath(path, source.path)}\0{status.st_size}\0{status.st_mtime_ns}")
    return _digest(source.kind, *sorted(parts))


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path` and put it in place once it is safely on disk.

    Raises:
        OSError: Writing failed; `path` is what it was, and the temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, content: bytes) -> None:
    """Write `content` atomically unless the file holds it already."""
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, lambda file: file.write(content))


def make_folders(root: Path) -> None:
    """Create the store's folders and remove what killed runs left half written over an hour ago."""
    for name in (".", VOLUMES, RECORDS, REFUSED):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f".*{_TEMPORARY}"):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                leftover.unlink(missing_ok=True)


@contextmanager
def write_failures(root: Path, way_out: str) -> Iterator[None]:
    """Turn a failed write below `root` into a StoreError that ends with `way_out`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"can't write there: {error.strerror or error}"
        raise StoreError(f"{root}: {what}; {way_out}") from error


def _companions(source: Source) -> list[Path]:
    """Files that say how those of `source` are to be read."""
    sidecars = [sidecar_path(path) for path in source.files] if source.kind == "numpy" else []
    return [path for path in sidecars if path.exists()]


def _digest(*parts: str, size: int = 16) -> str:
    lengths = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(lengths.encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()
