"""A result on its way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LONGEST_WAIT_S: Final = 600.0
_GIVE_UP_AFTER: Final = 50
_LONGEST_FROM: Final = 10
"""Attempts from which on the wait is the longest."""


@dataclass(frozen=True)
class Outgoing:
    """A result that waits to be sent.

    Args:
        file: Path below the spool.
        target: Where it goes, as the ledger spells it.
        attempts: How often it was tried; at most the first 10 of them while the target was away.
    """

    file: str
    target: str
    attempts: int

    @property
    def study(self) -> str:
        """Digest of the study that it is of."""
        return Path(self.file).parts[1]

    @property
    def wait_s(self) -> float:
        """Seconds until the next try."""
        return min(_LONGEST_WAIT_S, 2.0 ** min(self.attempts, _LONGEST_FROM))

    @property
    def is_last(self) -> bool:
        """Whether it is given up where the target does not take it this time."""
        return self.attempts + 1 >= _GIVE_UP_AFTER

    def tried(self, is_away: bool) -> int:
        """Count one more attempt; while the target is away only so far that waits grow to the longest."""
        return self.attempts + (not is_away or self.attempts < _LONGEST_FROM)
