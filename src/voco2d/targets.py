"""What is graded: the five targets of RSNA 2023, their classes and sample weights; all else follows from here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One graded organ or finding.

    Args:
        name: Name used in tables and heads.
        classes: Class names; the first is the healthy one.
        weights: Sample weight of each class in the RSNA 2023 score (DESIGN.md, 2).
    """

    name: str
    classes: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in label, prediction and submission tables, `<name>_<class>`."""
        return tuple(f"{self.name}_{grade}" for grade in self.classes)


def _by_name(*targets: Target) -> Mapping[str, Target]:
    return {target.name: target for target in targets}


_BINARY = ("healthy", "injury")
_GRADED = ("healthy", "low", "high")

TARGETS: Mapping[str, Target] = _by_name(
    Target("bowel", _BINARY, (1.0, 2.0)),
    Target("extravasation", _BINARY, (1.0, 6.0)),
    Target("kidney", _GRADED, (1.0, 2.0, 4.0)),
    Target("liver", _GRADED, (1.0, 2.0, 4.0)),
    Target("spleen", _GRADED, (1.0, 2.0, 4.0)),
)
ORGANS: tuple[str, ...] = ("kidney", "liver", "spleen")
ANY_INJURY = Target("any_injury", _BINARY, (1.0, 6.0))
"""Derived: p(injury) is the maximum over targets of 1 − p(healthy); never predicted by a head of its own."""

CLASS_COLUMNS: tuple[str, ...] = tuple(column for target in TARGETS.values() for column in target.columns)
"""The 13 columns of the RSNA 2023 sample submission, in its order."""
