"""What words of the command line are turned into; imports nothing heavy, so that `--help` answers at once."""

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from voco2d.errors import Voco2dError


def count(text: str) -> int:
    """Take a whole number of at least 0."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """Take a whole number of at least 1."""
    number = count(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def source(text: str) -> Path:
    """Take a path that is not empty."""
    if not text:  # as of a shell variable that is not set; as a path it would mean this folder
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def location(text: str) -> Any:
    """Take a path or a URL; what URLs need is imported only for one."""
    if "://" not in text:
        return Path(text)
    location: Any = import_module("voco2d.store.location")
    try:
        return location.parse_location(text)
    except Voco2dError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def targets(parser: argparse.ArgumentParser) -> None:
    """Add the option `--targets`."""
    parser.add_argument(
        "--targets", type=Path, metavar="FILE|RUN", help="YAML with the key targets, or a run (default: RSNA 2023's)"
    )


def out(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option `--out`, which is needed."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)
