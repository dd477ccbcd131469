"""What is graded: targets, their classes and sample weights, as a value that is passed on; and RSNA 2023's five."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["binary", "ordinal", "multiclass"]
"""Two classes; classes in an order, graded by a head that keeps it; or classes that each have a logit of their own."""


@dataclass(frozen=True)
class Target:
    """One graded organ or finding.

    Args:
        name: Name used in tables and heads.
        classes: Class names; the first is the one without a finding, which curves and calibration are told against.
        weights: Sample weight of each class in loss and score, 0 or more.
        kind: How it is graded.
    """

    name: str
    classes: tuple[str, ...]
    weights: tuple[float, ...]
    kind: Kind

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in label, prediction and submission tables, `<name>_<class>`."""
        return tuple(f"{self.name}_{grade}" for grade in self.classes)


@dataclass(frozen=True)
class TargetSet(Mapping[str, Target]):
    """All that is graded, name → target in the order of tables, heads and reports.

    Args:
        targets: At least one; `voco2d.target_block.parse_targets` checks what users write.
        derived: A target of two classes that no head predicts and that follows from the others: its second class has
            the maximum over targets of 1 − p(first class). Patients need every label then.
        organs: Targets whose mean the paper scores; none for others than RSNA's.
    """

    targets: tuple[Target, ...]
    derived: Target | None = None
    organs: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Target:
        """Look a target up by its name."""
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._by_name)

    def __len__(self) -> int:
        """Count the targets, the derived one left out."""
        return len(self.targets)

    @cached_property
    def _by_name(self) -> Mapping[str, Target]:
        return MappingProxyType({target.name: target for target in self.targets})

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is cached, which can't be pickled, so that other processes can be given a set."""
        return {"targets": self.targets, "derived": self.derived, "organs": self.organs}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All class columns in the order of tables."""
        return tuple(column for target in self.targets for column in target.columns)

    @cached_property
    def parts(self) -> Mapping[str, slice]:
        """Target → its place among `columns`."""
        ends = [sum(len(target.classes) for target in self.targets[: index + 1]) for index in range(len(self.targets))]
        return MappingProxyType(
            {t.name: slice(end - len(t.classes), end) for t, end in zip(self.targets, ends, strict=True)}
        )

    @cached_property
    def scored(self) -> Mapping[str, Target]:
        """The targets and the derived one, in the order of score tables."""
        derived = () if self.derived is None else (self.derived,)
        return MappingProxyType({target.name: target for target in (*self.targets, *derived)})

    @property
    def event(self) -> str:
        """Name in words what 1 − p(first class) is the probability of."""
        return "an injury" if self.is_rsna else "a class other than the first"

    @property
    def is_rsna(self) -> bool:
        """Whether these are RSNA 2023's, so that a score may bear that name."""
        return self == RSNA_2023


_BINARY = ("healthy", "injury")
_GRADED = ("healthy", "low", "high")

RSNA_2023: Final = TargetSet(
    targets=(
        Target("bowel", _BINARY, (1.0, 2.0), "binary"),
        Target("extravasation", _BINARY, (1.0, 6.0), "binary"),
        Target("kidney", _GRADED, (1.0, 2.0, 4.0), "multiclass"),
        Target("liver", _GRADED, (1.0, 2.0, 4.0), "multiclass"),
        Target("spleen", _GRADED, (1.0, 2.0, 4.0), "multiclass"),
    ),
    derived=Target("any_injury", _BINARY, (1.0, 6.0), "binary"),
    organs=("kidney", "liver", "spleen"),
)
"""What is graded where nothing else is said: the five targets of RSNA 2023 and any_injury."""

TARGETS: Final[Mapping[str, Target]] = RSNA_2023
"""RSNA's five, for what is about RSNA alone: phantoms and tests."""
CLASS_COLUMNS: Final = RSNA_2023.columns
"""The 13 columns of the RSNA 2023 sample submission, in its order."""
ORGANS: Final = RSNA_2023.organs
assert RSNA_2023.derived is not None
ANY_INJURY: Final = RSNA_2023.derived
