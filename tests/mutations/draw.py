"""What all mutations draw with."""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np

Draw: TypeAlias = np.random.Generator
T = TypeVar("T")

NUMBERS = (0, 1, 2, 7, 255, 4096, 60_000, 65_535)


def pick(things: Sequence[T], draw: Draw) -> T:
    """One of some things that NumPy would not keep as they are."""
    return things[int(draw.integers(len(things)))]


def flip(data: bytes, draw: Draw, start: int, stop: int) -> bytes:
    """Flip one to forty bits between two places."""
    changed = bytearray(data)
    for at in draw.integers(start, stop, int(draw.choice((1, 2, 5, 40)))):
        changed[at] ^= 1 << int(draw.integers(8))
    return bytes(changed)
