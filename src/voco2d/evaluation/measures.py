"""The scores that two prediction tables can be compared in, by name, each a mean over parts that counts decide.

Names: `rsna`, `rsna_organs`, `rsna.<target>`; the means over eight injuries `map`, `roc_auc`, `precision`, `recall`,
`specificity`, `f1`, and over the paper's nine organ classes with `_organs9` behind; `<target>.<metric>` as in the tree
of `scores.score_tree`, `log_loss`, `ece` and `brier` among them; `<target>.<class>.<metric>` for one class; `ece` and
`brier`, the means over the six targets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from voco2d.errors import UsageError
from voco2d.evaluation.calibration import BINS, bin_of_probability
from voco2d.evaluation.metrics import CLASS_METRICS, decide, decision_values, graded_classes
from voco2d.evaluation.pairing import SCORED_TARGETS, Paired
from voco2d.evaluation.ranking import weighted_average_precision, weighted_roc_auc
from voco2d.evaluation.rsna_score import row_losses, row_weights
from voco2d.targets import ORGANS, TARGETS

_RANKINGS: Final = {"average_precision": weighted_average_precision, "roc_auc": weighted_roc_auc}
_LOSSES: Final = ("weighted_log_loss", "log_loss", "ece", "brier")
"""Kinds of parts that belong to a target as a whole; all are better when lower."""


@dataclass(frozen=True)
class Part:
    """One metric of one class, or of a target as a whole (`grade` 0, unused)."""

    kind: str
    target: str
    grade: int = 0


@dataclass(frozen=True)
class Measure:
    """A score by its name: the mean of its parts.

    Args:
        name: As the module lists them.
        parts: At least one.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def lower_is_better(self) -> bool:
        """Losses and calibration errors; all other scores are better when higher."""
        return self.parts[0].kind in _LOSSES


def find_measure(name: str) -> Measure:
    """Look a score up by its name.

    Raises:
        UsageError: There is no such score.
    """
    if name not in MEASURES:
        raise UsageError(f"metric {name!r} is unknown; use one of {', '.join(MEASURES)}")
    return MEASURES[name]


def measure_values(
    paired: Paired, measures: Iterable[Measure], times: Float[np.ndarray, "N draws"]
) -> dict[str, Float[np.ndarray, " draws"]]:
    """Compute scores of rows that count several times, for many countings at once.

    Args:
        paired: N rows.
        measures: What to compute.
        times: How often each row counts in each draw, 0 or more; ones in a single column score the rows as they are.

    Returns:
        Name → a value a draw, NaN where it is undefined, as `metrics` says.
    """
    known: dict[Part, Float[np.ndarray, " draws"]] = {}
    values = {}
    for measure in measures:
        for part in measure.parts:
            if part not in known:
                known |= _part_values(paired, part, times)
        values[measure.name] = np.mean([known[part] for part in measure.parts], axis=0)
    return values


def _part_values(
    paired: Paired, part: Part, times: Float[np.ndarray, "N draws"]
) -> Mapping[Part, Float[np.ndarray, " draws"]]:
    """Compute a part, and what comes with it for nothing."""
    name = part.target
    if part.kind in _LOSSES:
        return {part: _target_value(paired, part, times)}
    positive = paired.truth[name] == part.grade
    if part.kind in _RANKINGS:
        return {part: _RANKINGS[part.kind](positive, paired.probabilities[name][:, part.grade], times)}
    called = decide(paired.probabilities[name]) == part.grade
    hits, occurring, chosen = np.stack([positive & called, positive, called]).astype(np.float64) @ times
    counted = decision_values(hits, occurring, chosen, times.sum(axis=0) - occurring)
    return {Part(kind, name, part.grade): value for kind, value in counted.items()}


def _target_value(paired: Paired, part: Part, times: Float[np.ndarray, "N draws"]) -> Float[np.ndarray, " draws"]:
    name, rows = part.target, times.sum(axis=0)
    value: Float[np.ndarray, " draws"]
    if part.kind == "weighted_log_loss":
        weights = row_weights(paired, name)
        value = (weights * row_losses(paired, name)) @ times / (weights @ times)
    elif part.kind == "log_loss":
        value = row_losses(paired, name) @ times / rows
    else:
        probability, injured = 1 - paired.probabilities[name][:, 0], paired.truth[name] > 0
        if part.kind == "brier":
            value = (probability - injured) ** 2 @ times / rows
        else:
            in_bin = np.eye(BINS)[bin_of_probability(probability, BINS)]
            value = np.abs((in_bin * (probability - injured)[:, None]).T @ times).sum(axis=0) / rows
    return value


def _all_measures() -> Iterable[Measure]:
    weighted = {name: Part("weighted_log_loss", name) for name in SCORED_TARGETS}
    yield Measure("rsna", tuple(weighted.values()))
    yield Measure("rsna_organs", tuple(weighted[organ] for organ in ORGANS))
    injuries = [(name, grade) for name, target in TARGETS.items() for grade in range(1, len(target.classes))]
    organs = [(name, grade) for name in ORGANS for grade in range(len(TARGETS[name].classes))]
    for classes, ending in ((injuries, ""), (organs, "_organs9")):
        for metric in CLASS_METRICS:
            title = "map" if metric == "average_precision" else metric
            yield Measure(title + ending, tuple(Part(metric, *chosen) for chosen in classes))
    for kind in ("ece", "brier"):
        yield Measure(kind, tuple(Part(kind, name) for name in SCORED_TARGETS))
    for name, part in weighted.items():
        yield Measure(f"rsna.{name}", (part,))
    for name, target in SCORED_TARGETS.items():
        for kind in ("log_loss", "ece", "brier"):
            yield Measure(f"{name}.{kind}", (Part(kind, name),))
        for metric in CLASS_METRICS:
            yield Measure(f"{name}.{metric}", tuple(Part(metric, name, grade) for grade in graded_classes(target)))
            for grade, title in enumerate(target.classes):
                yield Measure(f"{name}.{title}.{metric}", (Part(metric, name, grade),))


MEASURES: Final[Mapping[str, Measure]] = {measure.name: measure for measure in _all_measures()}
"""Every score by its name."""
