"""Packages that only some of our functions need; each belongs to an extra."""

from importlib import import_module
from typing import Any

from voco2d.errors import UsageError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Full name.
        extra: The extra of ours that installs it.
        purpose: What needs it; the error begins with it.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(f"{purpose} needs {package}; pip install 'voco2d[{extra}]'") from error
