"""What an alarm remembers of a run; neither memory nor the work of a judgement grows with the number of records."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Watched = Mapping[str, float]
"""The numbers of a record, finite ones alone, and `lr_share`, the learning rate over the highest so far."""

_PARTS = 200
"""Parts a stretch is divided into; its ends are known to a part."""


@dataclass
class Part:
    """Sums over the records of some steps.

    Args:
        number: Of the part, counted from step 0.
        first: Step of its first record.
        last: Step of its last record.
        sums: Entry → its values so far, the entry being in so many records as `counts` says.
        counts: Entry → records that have it.
    """

    number: int
    first: float
    last: float
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, record: Watched) -> None:
        """Take in a record."""
        self.last = record["step"]
        for key, value in record.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1


class Stretch:
    """The last steps of a run in parts of equal length, at most about 200 of them.

    Parts begin at multiples of their length, so that a run that is continued has the same ones.

    Args:
        steps: How long it is.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._length = max(-(-steps // _PARTS), 1)
        self._parts: deque[Part] = deque()

    def add(self, record: Watched) -> None:
        """Take in a record, and let go of parts that are past."""
        step = record["step"]
        number = int(step) // self._length
        if not self._parts or self._parts[-1].number != number:
            self._parts.append(Part(number, step, step))
        self._parts[-1].add(record)
        # one part more than the stretch, so that it is known to be whole
        while len(self._parts) > 2 and self._parts[1].first <= step - self.steps:
            self._parts.popleft()

    def parts(self, key: str) -> list[Part]:
        """Return the parts that have an entry; none where fewer steps are known or the stretch has no length."""
        if self.steps == 0 or not self._parts:
            return []
        begin = self._parts[-1].last - self.steps
        if self._parts[0].first > begin:
            return []
        return [part for part in self._parts if part.last >= begin and key in part.counts]


@dataclass(frozen=True)
class Past:
    """What a judgement is made from.

    Args:
        now: The newest record.
        sick_since: Ill → the step since which every record has had it.
        stretches: Symptom → the stretch it is told from.
    """

    now: Watched
    sick_since: Mapping[str, float]
    stretches: Mapping[str, Stretch]

    def lasted(self, ill: str) -> float:
        """Return for how many steps every record has had an ill; −1 where the newest hasn't."""
        return self.now["step"] - self.sick_since[ill] if ill in self.sick_since else -1.0


def mean_of(parts: Iterable[Part], key: str) -> float:
    """Return the mean of an entry over the records of parts that have it."""
    known = [part for part in parts if key in part.counts]
    return math.fsum(part.sums[key] for part in known) / sum(part.counts[key] for part in known)
