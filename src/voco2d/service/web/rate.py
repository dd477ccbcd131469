"""Bounds how often a caller may ask: token buckets, a bounded number of them."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST_CALLERS: Final = 10_000


class RateLimit:
    """A bucket a caller, which holds `burst` requests and refills steadily.

    Args:
        per_minute: Requests that flow in.
        burst: Requests that a full bucket holds.
        clock: Seconds that never go backwards.
    """

    def __init__(self, per_minute: int, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_minute / 60
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """Return 0 where a caller's bucket holds a request; else the seconds until it does."""
        level = self._level(caller)
        return 0.0 if level >= 1 else (1 - level) / self._per_s

    def spend(self, caller: str) -> None:
        """Take a request out of a caller's bucket."""
        self._levels[caller] = (max(0.0, self._level(caller) - 1), self._clock())
        self._levels.move_to_end(caller)
        while len(self._levels) > _MOST_CALLERS:  # the ones that have been silent longest
            self._levels.popitem(last=False)

    def _level(self, caller: str) -> float:
        now = self._clock()
        level, then = self._levels.get(caller, (float(self._burst), now))
        return min(float(self._burst), level + (now - then) * self._per_s)
