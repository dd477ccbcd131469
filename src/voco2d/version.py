"""Versions: the package's, readable without importing anything else, and those of what is installed beside it."""

from importlib.metadata import PackageNotFoundError, version

VERSION = "0.1.0"


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
