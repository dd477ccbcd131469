"""Progress of long work: a bar with an estimate on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 20.0

T = TypeVar("T")


class Progress:
    """Shows how far a piece of work is and how long the rest will take.

    Args:
        label: What is being done, two or three words.
        total: Number of steps; `None` where it is not known.
        done: Steps that an earlier, interrupted run has finished.
        shown: Whether anything is shown at all; one of several processes is enough.
    """

    def __init__(self, label: str, total: int | None, done: int = 0, shown: bool = True) -> None:
        self._shown = shown
        self._label = label
        self._total = total
        self._start = done
        self._done = done
        self._begun = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        if shown and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> "Progress":
        """Start drawing."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was, also after an error."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` as done; `note` is shown beside the estimate, for example the current loss."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note)
            return
        now = time.monotonic()
        if self._shown and (now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total):
            self._last_line = now
            _log.info("%s %s %s", self._label, self._state(now), note)

    def _state(self, now: float) -> str:
        if self._total is None:
            return f"{self._done}"
        per_step = (now - self._begun) / max(self._done - self._start, 1)
        left = int(per_step * (self._total - self._done))
        return f"{self._done}/{self._total}, about {left // 60}:{left % 60:02d} left"


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while showing how many are done; `total` is taken from their length where they have one."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
