"""Tells apart passes over the same part of the body, such as phases or reconstructions, that one series holds.

A mark is a header value that may name the pass: an acquisition number, a kernel, a time. Slices of one mark are a
piece. Two pieces clash when half or more of one's extent lies within the other's; two passes are where pieces clash.
Pieces are dealt out to passes in the order of their marks, whole runs first:

- runs: a pass ends where the next piece clashes with it (one phase is scanned, then the next);
- turns: pieces at one place follow each other, the k-th of each place is of pass k (all phases of one place, then the
  table moves on).

Marks that name a pass split even where neither order is found. Times and numbers, of which every slice may have its
own, split only where one of the two orders explains them all, so that no slice of a pass comes among those of another.
Marks that may change within a pass, such as the slice thickness, split only where slices share positions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from voco2d.errors import ReadError
from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_pixels import read_slice_hu
from voco2d.io.dicom_series import SAME_POSITION_MM, heights_mm, stack_positions

Stack: TypeAlias = list[SliceHeader]
Mark: TypeAlias = tuple[object, ...]
MarkOf: TypeAlias = Callable[[SliceHeader], Mark]

_SHARED_EXTENT = 0.5
_LOOKED_AT = 3


@dataclass(frozen=True)
class _Pieces:
    """Slices of one mark each, in the order of the marks, with their lowest and highest position."""

    stacks: list[Stack]
    low: Float[np.ndarray, " pieces"]
    high: Float[np.ndarray, " pieces"]

    def clashes(self, place: int) -> Bool[np.ndarray, " pieces"]:
        """Which pieces clash with one of them, itself included."""
        shared = np.minimum(self.high, self.high[place]) - np.maximum(self.low, self.low[place])
        extents = np.minimum(self.high - self.low, self.high[place] - self.low[place])
        return np.asarray(shared >= _SHARED_EXTENT * extents - SAME_POSITION_MM)

    def apart(self) -> bool:
        """Whether no pieces can clash, since each begins above all that lie lower."""
        order = np.argsort(self.low, kind="stable")
        tops = np.maximum.accumulate(self.high[order])
        return bool(np.all(self.low[order][1:] > tops[:-1] + SAME_POSITION_MM))


def split_named(stack: Stack, mark_of: MarkOf) -> list[Stack]:
    """Split wherever slices of different marks clash, for marks that name a pass."""
    pieces = _pieces(stack, mark_of)
    if pieces is None:
        return [stack]
    passes = _runs_or_turns(pieces)
    return _join(pieces, _first_fit(pieces) if passes is None else passes)


def split_ordered(stack: Stack, mark_of: MarkOf, min_slices: int, min_share: float = 0.0) -> list[Stack]:
    """Split by marks that only order slices, such as times, where they make whole passes of different pictures.

    Args:
        stack: Slices of one geometry.
        mark_of: Their marks; where some slice has none nothing is split.
        min_slices: A pass of fewer positions is no pass but copies of single slices.
        min_share: Likewise, as a share of the positions of the largest pass.
    """
    if not all(any(value not in ("", None) for value in mark_of(header)) for header in stack):
        return [stack]
    pieces = _pieces(stack, mark_of)
    passes = None if pieces is None else _runs_or_turns(pieces)
    if pieces is None or passes is None:
        return [stack]
    stacks = _join(pieces, passes)
    sizes = [len(stack_positions(part)) for part in stacks]
    if min(sizes) < max(min_slices, min_share * max(sizes)):
        return [stack]
    return _without_copies(stacks)


def split_doubled(stack: Stack, mark_of: MarkOf, min_slices: int) -> list[Stack]:
    """Split by marks that may change within a pass, where they tell apart all slices that share a position.

    Args:
        stack: Slices of one geometry.
        mark_of: Their marks.
        min_slices: Fewer shared positions, or positions of one mark, are copies of single slices.
    """
    shared = [same for same in stack_positions(stack) if len(same) > 1]
    if len(shared) < min_slices or any(len({mark_of(header) for header in same}) < len(same) for same in shared):
        return [stack]
    groups: dict[Mark, Stack] = defaultdict(list)
    for header in stack:
        groups[mark_of(header)].append(header)
    if min(map(len, groups.values())) < min_slices:
        return [stack]
    return _without_copies(list(groups.values()))


def _pieces(stack: Stack, mark_of: MarkOf) -> _Pieces | None:
    """Pieces of a stack; `None` where none can clash."""
    groups: dict[Mark, Stack] = defaultdict(list)
    for header in stack:
        groups[mark_of(header)].append(header)
    if len(groups) < 2:
        return None
    stacks = [groups[mark] for mark in sorted(groups, key=lambda mark: tuple(_sortable(value) for value in mark))]
    heights = [heights_mm(group, stack[0]) for group in stacks]
    pieces = _Pieces(
        stacks, np.array([height.min() for height in heights]), np.array([height.max() for height in heights])
    )
    return None if pieces.apart() else pieces


def _sortable(value: object) -> tuple[float, str]:
    """Numbers by their size, before other text by its letters."""
    try:
        return float(str(value)), ""
    except ValueError:
        return float("inf"), str(value)


def _runs_or_turns(pieces: _Pieces) -> Int[np.ndarray, " pieces"] | None:
    most = max(int(pieces.clashes(place).sum()) for place in range(len(pieces.stacks)))
    for deal in (_runs, _turns):
        passes = deal(pieces)
        if passes is not None and passes.max() < most and _repeat_each_other(pieces, passes):
            return passes
    return None


def _runs(pieces: _Pieces) -> Int[np.ndarray, " pieces"]:
    passes = np.zeros(len(pieces.stacks), int)
    begin = 0
    for place in range(1, len(passes)):
        if pieces.clashes(place)[begin:place].any():
            begin = place
            passes[place:] += 1
    return passes


def _turns(pieces: _Pieces) -> Int[np.ndarray, " pieces"] | None:
    passes = np.zeros(len(pieces.stacks), int)
    for place in range(1, len(passes)):
        passes[place] = passes[place - 1] + 1 if pieces.clashes(place)[place - 1] else 0
    return passes if _keep_apart(pieces, passes) else None


def _keep_apart(pieces: _Pieces, passes: Int[np.ndarray, " pieces"]) -> bool:
    return all(int((pieces.clashes(place) & (passes == passes[place])).sum()) == 1 for place in range(len(passes)))


def _repeat_each_other(pieces: _Pieces, passes: Int[np.ndarray, " pieces"]) -> bool:
    """Whether half or more of the smaller of two passes clashes with the other, as where a part is scanned again."""
    for number in range(1, int(passes.max()) + 1):
        here, before = passes == number, passes == number - 1
        clashing = np.array([pieces.clashes(int(place)) for place in np.flatnonzero(here)])
        met = clashing[:, before]
        few, smaller = (met.any(axis=1), here) if here.sum() <= before.sum() else (met.any(axis=0), before)
        if few.sum() < _SHARED_EXTENT * smaller.sum():
            return False
    return True


def _first_fit(pieces: _Pieces) -> Int[np.ndarray, " pieces"]:
    """Put each piece into the first pass it doesn't clash with."""
    passes = np.full(len(pieces.stacks), -1)
    for place in range(len(passes)):
        taken = set(passes[pieces.clashes(place)])
        passes[place] = next(number for number in range(len(passes)) if number not in taken)
    return passes


def _join(pieces: _Pieces, passes: Int[np.ndarray, " pieces"]) -> list[Stack]:
    stacks: list[Stack] = [[] for _ in range(int(passes.max()) + 1)]
    for group, number in zip(pieces.stacks, passes, strict=True):
        stacks[number] += group
    return stacks


def _without_copies(stacks: Sequence[Stack]) -> list[Stack]:
    """Join passes that hold the same pixels."""
    different: list[Stack] = []
    for part in stacks:
        original = next((other for other in different if _are_copies(other, part)), None)
        if original is None:
            different.append(part)
        else:
            original += part
    return different


def _are_copies(one: Sequence[SliceHeader], other: Sequence[SliceHeader]) -> bool:
    """Whether two passes hold the same pixels, as far as a few positions of both tell."""
    shared = list(_shared_positions(one, other))
    looked_at = {round(share * (len(shared) - 1)) for share in np.linspace(0.25, 0.75, _LOOKED_AT)} if shared else set()
    try:
        return bool(looked_at) and all(
            np.array_equal(read_slice_hu(mine.path, mine.frame), read_slice_hu(theirs.path, theirs.frame))
            for mine, theirs in (shared[place] for place in sorted(looked_at))
        )
    except ReadError:
        return False


def _shared_positions(
    one: Sequence[SliceHeader], other: Sequence[SliceHeader]
) -> Iterator[tuple[SliceHeader, SliceHeader]]:
    ids = {id(header) for header in one}
    for same in stack_positions([*one, *other]):
        mine = [header for header in same if id(header) in ids]
        theirs = [header for header in same if id(header) not in ids]
        if mine and theirs:
            yield mine[0], theirs[0]
