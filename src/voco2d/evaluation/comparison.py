"""Holds two arms against each other on the same patients, by the mean of a score over each arm's seeds of training.

The interval comes from the paired bootstrap: patients are drawn with replacement, both arms and all seeds on the same
draw. It covers another draw of patients for just these trained models. With `resample_seeds` each draw takes seeds
with replacement too, seed i of both arms together, and the interval covers another training as far as so few seeds can
tell: with k seeds their spread comes out smaller by a factor of √((k − 1) / k).

The p-value comes from a permutation test: were the arms alike, it would not matter which of the two predicted a
patient, so the predictions of a patient change arms in half of the cases, those of all seeds together. It is the share
of such exchanges, the one that happened among them, with a difference at least as large on either side; the least it
can be is 1 / (permutations + 1). It asks whether these models differ on such patients, not whether other seeds would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from voco2d.errors import UsageError
from voco2d.evaluation.alignment import align, stack_rows
from voco2d.evaluation.measures import Measure, find_measure, measure_values
from voco2d.evaluation.pairing import Aggregate, Paired
from voco2d.evaluation.significance import percentile_interval, row_draws
from voco2d.targets import RSNA_2023, TargetSet

PERMUTATIONS: Final = 10_000
"""Enough for p < 0.01 after Holm's correction of a hundred comparisons."""

_CELLS_AT_ONCE: Final = 500_000
"""Rows × permutations held as one float64 array: 4 MB, which a core's caches keep."""
_ROUNDING: Final = 1e-9
"""Differences that are equal but for the order of summation count as equal."""

Values: TypeAlias = dict[str, Float[np.ndarray, " draws"]]


@dataclass(frozen=True)
class Estimate:
    """A score of one arm; NaN where it is undefined.

    Args:
        metric: Its name, see `measures`.
        value: Mean over seeds.
        low: Lower end of the 95 % interval.
        high: Upper end.
        seeds: The score of each seed, in order.
    """

    metric: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Two arms in one score; NaN where it is undefined.

    Args:
        metric: Its name, see `measures`.
        first: Mean over the seeds of the first arm.
        second: Mean over the seeds of the second.
        difference: Second minus first.
        low: Lower end of the difference's 95 % interval.
        high: Upper end.
        p: Of the two-sided permutation test; not corrected for other comparisons, see `holm`.
        better: Whether the second arm is the better one, by the score's direction; None where they are equal or
            undefined. It says nothing about significance.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    better: bool | None


def compare(
    labels: pd.DataFrame,
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
    metrics: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    *,
    permutations: int = PERMUTATIONS,
    aggregate: Aggregate = "max",
    resample_seeds: bool = False,
    targets: TargetSet = RSNA_2023,
) -> list[Comparison]:
    """Compare two arms in some scores.

    Args:
        labels: As `tables.check_labels`; patients that no table predicts are left out.
        first: Prediction tables of the arm to compare with, one a seed.
        second: Those of the other arm, as many, of the same patients.
        metrics: Names of `measures.measures_of`.
        resamples: Of the bootstrap, 1 or more.
        seed: Of resamples and permutations; the same patients and seed give the same draws, whatever was predicted.
        permutations: Of the test, 1 or more.
        aggregate: How a patient's series become one row; `none` is refused, since patients are what is drawn.
        resample_seeds: Whether the interval is to cover the draw of seeds too.
        targets: What is scored.

    Returns:
        A comparison a metric, in their order.

    Raises:
        LabelError: As `pairing.pair`, or the tables cover different patients.
        UsageError: A metric is unknown, a number is below 1, or the arms have no seed or not the same number.
    """
    tables = align(labels, [*first, *second], aggregate, targets)
    arms = tables[: len(first)], tables[len(first) :]
    return compare_aligned(*arms, metrics, resamples, seed, permutations=permutations, resample_seeds=resample_seeds)


def compare_aligned(
    before: Sequence[Paired],
    after: Sequence[Paired],
    metrics: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    *,
    permutations: int = PERMUTATIONS,
    resample_seeds: bool = False,
) -> list[Comparison]:
    """Compare two arms, `before` and `after`, that `alignment.align` has joined already, a table a seed.

    `metrics`, `resamples`, `seed`, `permutations` and `resample_seeds` are those of `compare`.
    """
    if len(before) != len(after):
        raise UsageError(f"{len(before)} seeds against {len(after)}: a comparison takes as many of both arms")
    measures = _checked(metrics, resamples, before[0].targets if before else RSNA_2023)
    if permutations < 1:
        raise UsageError(f"{permutations} is not a number of permutations; use {PERMUTATIONS}")
    left, right = _points(before, measures), _points(after, measures)
    drawn = _difference(
        _resampled(before, measures, resamples, seed, resample_seeds),
        _resampled(after, measures, resamples, seed, resample_seeds),
    )
    exchanged = _exchanged(before, after, measures, permutations, seed)
    return [
        _comparison(measure, left[name].mean(), right[name].mean(), drawn[name], exchanged[name])
        for name, measure in ((measure.name, measure) for measure in measures)
    ]


def estimate(
    labels: pd.DataFrame,
    predictions: Sequence[pd.DataFrame],
    metrics: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    *,
    aggregate: Aggregate = "max",
    resample_seeds: bool = False,
    targets: TargetSet = RSNA_2023,
) -> list[Estimate]:
    """Score one arm, with the interval of its mean over seeds; `predictions` are its tables, a table a seed.

    `labels`, `metrics`, `resamples`, `seed`, `aggregate`, `resample_seeds`, `targets`, errors: those of `compare`.
    """
    measures = _checked(metrics, resamples, targets)
    tables = align(labels, predictions, aggregate, targets)
    points = _points(tables, measures)
    drawn = _resampled(tables, measures, resamples, seed, resample_seeds)
    estimates = []
    for name, values in points.items():
        value = float(values.mean())
        low, high = percentile_interval(value, drawn[name])
        estimates.append(Estimate(name, value, low, high, tuple(values.tolist())))
    return estimates


def _checked(metrics: Sequence[str], resamples: int, targets: TargetSet) -> list[Measure]:
    if resamples < 1:
        raise UsageError(f"{resamples} is not a number of resamples; use 1000")
    return [find_measure(name, targets) for name in metrics]


def _points(tables: Sequence[Paired], measures: Sequence[Measure]) -> Values:
    """Score each seed as it is; an array over seeds a measure."""
    once = np.ones((len(tables[0]), 1))
    scored = [measure_values(table, measures, once) for table in tables]
    return {measure.name: np.concatenate([values[measure.name] for values in scored]) for measure in measures}


def _resampled(
    tables: Sequence[Paired], measures: Sequence[Measure], resamples: int, seed: int, resample_seeds: bool
) -> Values:
    """Score draws of the patients: the mean over seeds, or over seeds drawn with replacement."""
    parts = []
    for times in row_draws(tables[0], resamples, seed):
        scored = [measure_values(table, measures, times) for table in tables]
        parts.append({m.name: np.stack([values[m.name] for values in scored]) for m in measures})
    by_seed = {measure.name: np.concatenate([part[measure.name] for part in parts], axis=1) for measure in measures}
    if not resample_seeds:
        return {name: values.mean(axis=0) for name, values in by_seed.items()}
    chosen = np.random.default_rng([seed, 1]).integers(len(tables), size=(len(tables), resamples))
    return {name: np.take_along_axis(values, chosen, axis=0).mean(axis=0) for name, values in by_seed.items()}


def _exchanged(
    before: Sequence[Paired], after: Sequence[Paired], measures: Sequence[Measure], permutations: int, seed: int
) -> Values:
    """Compute the difference of the arms for random exchanges of patients between them."""
    both = [stack_rows(one, other) for one, other in zip(before, after, strict=True)]
    parts = []
    for kept in _exchanges(len(before[0]), permutations, seed):
        mine, theirs = np.concatenate([kept, ~kept]), np.concatenate([~kept, kept])
        arms = []
        for times in (mine.astype(np.float64), theirs.astype(np.float64)):
            scored = [measure_values(table, measures, times) for table in both]
            arms.append({m.name: np.mean([values[m.name] for values in scored], axis=0) for m in measures})
        parts.append(_difference(*arms))
    return {measure.name: np.concatenate([part[measure.name] for part in parts]) for measure in measures}


def _exchanges(patients: int, permutations: int, seed: int) -> Iterator[Bool[np.ndarray, "patients draws"]]:
    """Yield which patients keep their arm, some permutations at a time."""
    generator = np.random.default_rng([seed, 2])
    step = max(1, _CELLS_AT_ONCE // (2 * patients))
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        yield np.ascontiguousarray(generator.integers(2, size=(count, patients), dtype=np.int8).T).astype(bool)


def _difference(first: Values, second: Values) -> Values:
    return {name: second[name] - first[name] for name in first}


def _comparison(measure: Measure, first: float, second: float, drawn: np.ndarray, exchanged: np.ndarray) -> Comparison:
    difference = float(second - first)
    low, high = percentile_interval(difference, drawn)
    if np.isnan(difference):
        p = np.nan
    else:
        p = (1 + int((np.abs(exchanged) >= abs(difference) - _ROUNDING).sum())) / (1 + len(exchanged))
    better = None
    if abs(difference) > 0:
        better = (difference < 0) == measure.lower_is_better
    return Comparison(measure.name, float(first), float(second), difference, low, high, float(p), better)
