"""Reads text files that should be small, such as lists, tables and sidecars."""

from pathlib import Path

MAX_TEXT_BYTES = 64 * 2**20
"""A list of half a million paths is shorter; a file of any size may bear a list's name."""


def read_small_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a text file as a whole, its line ends as they are.

    Args:
        path: Any file.
        encoding: As of `open`.

    Raises:
        OSError: It can't be read.
        ValueError: It holds more than `MAX_TEXT_BYTES`, or another encoding.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"more than {MAX_TEXT_BYTES} bytes")
    return data.decode(encoding)
