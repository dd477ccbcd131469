"""The scores that two prediction tables can be compared in, by name, each a mean over parts that counts decide.

Names: `rsna`, `rsna_organs`, `rsna.<target>`; the means over eight injuries `map`, `roc_auc`, `precision`, `recall`,
`specificity`, `f1`, and over the paper's nine organ classes with `_organs9` behind; `<target>.<metric>` as in the tree
of `scores.score_tree`, `log_loss`, `accuracy`, `ece` and `brier` among them; `<target>.<class>.<metric>` for one class;
`ece` and `brier`, the means over the six targets. Of other targets than RSNA's `score` is in the place of `rsna`, the
means are over their graded classes, nothing is about organs, and ordinal ones have `<target>.quadratic_kappa` and
`<target>.grade_error`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from voco2d.errors import UsageError
from voco2d.evaluation.calibration import BINS, bin_of_probability
from voco2d.evaluation.metrics import CLASS_METRICS, averaged_classes, decide, decision_draws, graded_classes
from voco2d.evaluation.ordinal import ORDINAL_METRICS, ordinal_values
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.ranking import weighted_average_precision, weighted_roc_auc
from voco2d.evaluation.rsna_score import row_losses, row_weights, score_name
from voco2d.targets import RSNA_2023, TargetSet

_RANKINGS: Final = {"average_precision": weighted_average_precision, "roc_auc": weighted_roc_auc}
_LOSSES: Final = ("weighted_log_loss", "log_loss", "ece", "brier", "grade_error")
"""Kinds that are better when lower; they belong to a target as a whole, as accuracy does."""
_WHOLE: Final = (*_LOSSES, "accuracy", "quadratic_kappa")


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


def find_measure(name: str, targets: TargetSet = RSNA_2023) -> Measure:
    """Look a score of targets up by its name.

    Raises:
        UsageError: There is no such score.
    """
    known = measures_of(targets)
    if name not in known:
        raise UsageError(f"metric {name!r} is unknown; use one of {', '.join(known)}")
    return known[name]


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
    if part.kind in _WHOLE:
        return {part: _target_value(paired, part, times)}
    probabilities, truth = paired.labelled(name)
    times = paired.counted(name, times)
    positive = truth == part.grade
    if part.kind in _RANKINGS:
        return {part: _RANKINGS[part.kind](positive, probabilities[:, part.grade], times)}
    called = decide(probabilities, paired.targets.scored[name]) == part.grade
    counted = decision_draws(positive, called, times)
    return {Part(kind, name, part.grade): value for kind, value in counted.items()}


def _target_value(paired: Paired, part: Part, times: Float[np.ndarray, "N draws"]) -> Float[np.ndarray, " draws"]:
    name = part.target
    probabilities, truth = paired.labelled(name)
    times = paired.counted(name, times)
    with np.errstate(invalid="ignore"):  # a draw may lack every label of a target
        return _whole_value(paired, part, probabilities, truth, times)


def _whole_value(
    paired: Paired,
    part: Part,
    probabilities: Float[np.ndarray, "n classes"],
    truth: Int[np.ndarray, " n"],
    times: Float[np.ndarray, "n draws"],
) -> Float[np.ndarray, " draws"]:
    name, rows = part.target, times.sum(axis=0)
    target = paired.targets.scored[name]
    value: Float[np.ndarray, " draws"]
    if part.kind == "weighted_log_loss":
        weights = row_weights(paired, name)
        value = (weights * row_losses(paired, name)) @ times / (weights @ times)
    elif part.kind == "log_loss":
        value = row_losses(paired, name) @ times / rows
    elif part.kind in ORDINAL_METRICS:
        value = ordinal_values(truth, decide(probabilities, target), probabilities.shape[1], times)[part.kind]
    elif part.kind == "accuracy":
        value = (decide(probabilities, target) == truth).astype(np.float64) @ times / rows
    else:
        probability, injured = 1 - probabilities[:, 0], truth > 0
        if part.kind == "brier":
            value = (probability - injured) ** 2 @ times / rows
        else:
            in_bin = np.eye(BINS)[bin_of_probability(probability, BINS)]
            value = np.abs((in_bin * (probability - injured)[:, None]).T @ times).sum(axis=0) / rows
    return value


@lru_cache
def measures_of(targets: TargetSet) -> Mapping[str, Measure]:
    """List every score of targets by its name."""
    return MappingProxyType({measure.name: measure for measure in _all_measures(targets)})


def _all_measures(targets: TargetSet) -> Iterable[Measure]:
    weighted = {name: Part("weighted_log_loss", name) for name in targets.scored}
    score = score_name(targets)
    yield Measure(score, tuple(weighted.values()))
    means = [(averaged_classes(targets), "")]
    if targets.is_rsna:
        yield Measure("rsna_organs", tuple(weighted[organ] for organ in targets.organs))
        organs = [(name, grade) for name in targets.organs for grade in range(len(targets[name].classes))]
        means.append((organs, "_organs9"))
    for classes, ending in means:
        for metric in CLASS_METRICS:
            title = "map" if metric == "average_precision" else metric
            yield Measure(title + ending, tuple(Part(metric, *chosen) for chosen in classes))
    for kind in ("ece", "brier"):
        yield Measure(kind, tuple(Part(kind, name) for name in targets.scored))
    for name, part in weighted.items():
        yield Measure(f"{score}.{name}", (part,))
    for name, target in targets.scored.items():
        ordinal = ORDINAL_METRICS if target.kind == "ordinal" else ()
        for kind in ("log_loss", "accuracy", "ece", "brier", *ordinal):
            yield Measure(f"{name}.{kind}", (Part(kind, name),))
        for metric in CLASS_METRICS:
            yield Measure(f"{name}.{metric}", tuple(Part(metric, name, grade) for grade in graded_classes(target)))
            for grade, title in enumerate(target.classes):
                yield Measure(f"{name}.{title}.{metric}", (Part(metric, name, grade),))


MEASURES: Final[Mapping[str, Measure]] = measures_of(RSNA_2023)
"""Every score of RSNA 2023's targets by its name."""
