"""Bootstrap by patient: how far a score could move with another draw of patients.

Patients are drawn with replacement, and all rows of a patient go with it. A resample is a number of times each patient
was drawn, so that a thousand of them are a few matrix products. Intervals are percentiles.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.metrics import ClassValues, decide, decision_draws
from voco2d.evaluation.ordinal import ordinal_values
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.ranking import weighted_average_precision, weighted_roc_auc
from voco2d.evaluation.rsna_score import row_losses, row_weights
from voco2d.evaluation.scores import Tree, point_scores, score_tree

CONFIDENCE: Final = 0.95
_CELLS_AT_ONCE = 2_000_000
"""Rows × resamples held as one float64 array: 16 MB."""


def resampled_scores(paired: Paired, resamples: int, seed: int) -> Tree:
    """Score `resamples` bootstrap draws of the patients.

    Returns:
        The tree of `scores.score_tree` with an array (resamples,) at each leaf; NaN where a draw lacks a class.
        The same patients and seed give the same draws, whatever was predicted for them.

    Raises:
        UsageError: `resamples` is below 1.
    """
    if resamples < 1:
        raise UsageError(f"bootstrap {resamples} is not a number of resamples; use 1000, or 0 for no intervals")
    parts = [_score_draws(paired, draws) for draws in row_draws(paired, resamples, seed)]
    return _joined(parts)


def intervals(scores: Tree, resampled: Tree) -> Tree:
    """Take the 95 % percentile interval `[low, high]` of each leaf; None where the score itself is undefined."""
    return _map2(scores, resampled, _interval)


def paired_difference(baseline: Paired, candidate: Paired, bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compare two models on the same patients: candidate minus baseline, with the interval of the paired bootstrap.

    Both are scored on the same draws, so that what makes a patient hard for both cancels.

    Returns:
        The tree of `scores.score_tree` with `{"difference", "low", "high"}` at each leaf, None where undefined.

    Raises:
        LabelError: The two cover different patients.
    """
    if set(baseline.patient_ids) != set(candidate.patient_ids):
        raise LabelError("the two prediction tables cover different patients; predict the same patients with both")
    before, after = point_scores(baseline), point_scores(candidate)
    difference = _map2(after, before, lambda a, b: a - b)
    drawn = _map2(
        resampled_scores(candidate, bootstrap, seed), resampled_scores(baseline, bootstrap, seed), lambda a, b: a - b
    )

    def leaf(value: float, draws: np.ndarray) -> dict[str, float] | None:
        bounds = _interval(value, draws)
        return None if bounds is None else {"difference": float(value), "low": bounds[0], "high": bounds[1]}

    return _map2(difference, drawn, leaf)


def row_draws(paired: Paired, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "N draws"]]:
    """Yield how often each row was drawn, a column a draw, some draws at a time; rows of a patient go together."""
    patients, patient_of_row = np.unique(np.asarray(paired.patient_ids, dtype=str), return_inverse=True)
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // len(paired))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = np.stack([_draw(generator, len(patients)) for _ in range(count)], axis=1)
        yield drawn[patient_of_row]


def percentile_interval(value: float, draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Take the 95 % percentile interval of the defined draws; NaN twice where the value itself is undefined."""
    defined = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(defined):
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)


def _draw(generator: np.random.Generator, patients: int) -> Float[np.ndarray, " patients"]:
    chosen = generator.integers(patients, size=patients)
    return np.bincount(chosen, minlength=patients).astype(np.float64)


def _score_draws(paired: Paired, draws: Float[np.ndarray, "N draws"]) -> Tree:
    whole, weighted = {}, {}
    for name, target in paired.targets.scored.items():
        losses, weights = row_losses(paired, name), row_weights(paired, name)
        probabilities, truth = paired.labelled(name)
        called, times = decide(probabilities, target), paired.counted(name, draws)
        right = (called == truth).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw may lack every label of a target
            loss, accuracy = np.stack([losses, right]) @ times / times.sum(axis=0)
            weighted[name] = (weights * losses) @ times / (weights @ times)
        whole[name] = {"log_loss": loss, "accuracy": accuracy}
        if target.kind == "ordinal":
            whole[name] |= ordinal_values(truth, called, len(target.classes), times)
    return score_tree(_class_values(paired, draws), whole, weighted, paired.targets)


def _class_values(paired: Paired, draws: Float[np.ndarray, "N draws"]) -> ClassValues:
    values: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, target in paired.targets.scored.items():
        probabilities, truth = paired.labelled(name)
        called, times = decide(probabilities, target), paired.counted(name, draws)
        values[name] = {}
        for index, grade in enumerate(target.classes):
            positive, chosen, score = truth == index, called == index, probabilities[:, index]
            values[name][grade] = {
                "average_precision": weighted_average_precision(positive, score, times),
                "roc_auc": weighted_roc_auc(positive, score, times),
                **decision_draws(positive, chosen, times),
            }
    return values


def _interval(value: float, draws: Float[np.ndarray, " draws"]) -> list[float] | None:
    low, high = percentile_interval(value, draws)
    return None if np.isnan(low) else [low, high]


def _map2(first: Tree, second: Tree, function: Callable[[Any, Any], Any]) -> Tree:
    """Apply `function` to the leaves of two trees of one shape."""
    return {
        key: _map2(value, second[key], function) if isinstance(value, dict) else function(value, second[key])
        for key, value in first.items()
    }


def _joined(parts: Sequence[Tree]) -> Tree:
    """Lay the resamples of several trees of one shape end to end."""
    return {
        key: _joined([part[key] for part in parts])
        if isinstance(value, dict)
        else np.concatenate([part[key] for part in parts])
        for key, value in parts[0].items()
    }
