"""Where a store lies: a folder of this machine, or a folder of anything that fsspec reaches by URL."""

import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import fsspec
from upath import UPath

from voco2d.errors import UsageError

Location: TypeAlias = Path | UPath
"""A `Path` of this machine, or a `UPath` of another file system."""

CACHE_VARIABLE = "VOCO2D_CACHE"
"""Environment variable that names the folder for copies of remote volumes."""

_LOCAL = ("", "file", "local")
_MANGLED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def parse_location(text: Location | str) -> Location:
    """Take a path or a URL such as `s3://bucket/store`.

    Args:
        text: A path, `file://`, or a URL of any protocol that fsspec knows. How to log in is never part of it: that
            comes from the environment or fsspec's own configuration files.

    Raises:
        UsageError: The protocol is unknown, its package is missing, or the URL holds a password or a query.
    """
    if isinstance(text, UPath) and not isinstance(text, Path):
        return text
    if "://" not in str(text):
        return _local(Path(text))
    url = urlsplit(str(text))
    if url.password or url.query:
        raise UsageError(
            f"{url.scheme}://{url.hostname or ''}: the URL holds a password or key, which would end up in logs; give "
            "it through the environment or fsspec's configuration files"
        )
    if url.scheme in _LOCAL:
        return Path(UPath(str(text)).path)
    try:
        fsspec.get_filesystem_class(url.scheme)
    except ImportError as error:
        raise UsageError(f"{text}: {url.scheme}:// needs a further package ({error})") from error
    except ValueError as error:
        raise UsageError(f"{text}: unknown protocol {url.scheme}://; give a path or a URL that fsspec knows") from error
    return UPath(str(text))


def is_remote(location: Location) -> bool:
    """Whether it is reached through fsspec, so that nothing there can be renamed or memory-mapped."""
    return not isinstance(location, Path)


def is_in_memory(location: Location) -> bool:
    """Whether it lives and dies with this process, so that no other one can write there."""
    return isinstance(location, UPath) and location.protocol == "memory"


def absolute(path: Path | str) -> Path:
    """Make a path comparable. Links are not followed: a data manager may point the same name at new content."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links


def cache_folder(store: Location) -> Path:
    """Return the folder for copies of a remote store's volumes, below VOCO2D_CACHE or the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voco2d"
    return base / "volumes" / blake2b(str(store).encode(), digest_size=8).hexdigest()


def _local(path: Path) -> Path:
    first = path.parts[0] if path.parts else ""
    if _MANGLED.fullmatch(first) and len(first) > 2 and not path.exists():
        raise UsageError(f"{path}: looks like a URL that was turned into a path; give it as text, with ://")
    return path
