"""Everything `voco2d evaluate` says about one prediction table."""

import math
from typing import Any

import numpy as np
import pandas as pd

from voco2d.evaluation.calibration import brier_score, expected_calibration_error
from voco2d.evaluation.pairing import SCORED_TARGETS, Aggregate, Paired, pair
from voco2d.evaluation.scores import Tree, point_scores
from voco2d.evaluation.significance import CONFIDENCE, intervals, resampled_scores


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    aggregate: Aggregate = "max",
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a prediction table; the result goes into JSON as it is.

    Args:
        predictions: As `tables.check_predictions`.
        labels: As `tables.check_labels`.
        aggregate: How the series of a patient become one row, see `pairing.pair`.
        bootstrap: Resamples for 95 % intervals; 0 for none.
        seed: Of the resamples.

    Returns:
        The tree of `scores.score_tree`, undefined leaves None, where each target has besides `n` (rows scored) and each
        of its classes `n` (rows of that class); `calibration` {target: {`ece`, `brier`}} of 1 − p(healthy), with
        their `mean` over the six; `aggregate`, `n_rows`, `n_patients`, `warnings`. With `bootstrap`: `bootstrap`
        {`resamples`, `seed`, `confidence`} and `intervals`, the same tree with `[low, high]` at each leaf.

    Raises:
        LabelError: As `pairing.pair`.
        UsageError: `aggregate` or `bootstrap` is not what it may be.
    """
    return evaluate_paired(pair(predictions, labels, aggregate), aggregate, bootstrap, seed)


def evaluate_paired(paired: Paired, aggregate: Aggregate, bootstrap: int = 0, seed: int = 0) -> dict[str, Any]:
    """Score what `pairing.pair` has joined; otherwise as `evaluate`."""
    scores = point_scores(paired)
    result: dict[str, Any] = _with_counts(_nullable(scores), paired)
    result["calibration"] = _calibration(paired)
    result |= {"aggregate": aggregate, "n_rows": len(paired), "n_patients": len(set(paired.patient_ids))}
    result["warnings"] = [*paired.warnings, *_class_warnings(paired, scores)]
    if bootstrap:
        resampled = resampled_scores(paired, bootstrap, seed)
        result["bootstrap"] = {"resamples": bootstrap, "seed": seed, "confidence": CONFIDENCE}
        result["intervals"] = intervals(scores, resampled)
        result["warnings"] += _resample_warnings(scores, resampled, bootstrap)
    return result


def _nullable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _nullable(value) for key, value in tree.items()}
    return None if math.isnan(tree) else float(tree)


def _with_counts(result: Tree, paired: Paired) -> Tree:
    for name, target in SCORED_TARGETS.items():
        result["targets"][name]["n"] = len(paired)
        counts = np.bincount(paired.truth[name], minlength=len(target.classes))
        for grade, count in zip(target.classes, counts, strict=True):
            result["targets"][name]["classes"][grade]["n"] = int(count)
    return result


def _calibration(paired: Paired) -> dict[str, dict[str, float]]:
    values = {}
    for name in SCORED_TARGETS:
        injured, probability = paired.truth[name] > 0, 1 - paired.probabilities[name][:, 0]
        values[name] = {
            "ece": expected_calibration_error(injured, probability),
            "brier": brier_score(injured, probability),
        }
    mean = {key: float(np.mean([entry[key] for entry in values.values()])) for key in ("ece", "brier")}
    return {**values, "mean": mean}


def _class_warnings(paired: Paired, scores: Tree) -> list[str]:
    warnings = []
    for name, target in SCORED_TARGETS.items():
        for index, grade in enumerate(target.classes):
            count = int((paired.truth[name] == index).sum())
            if count == 0:
                warnings.append(f"{name}_{grade} never occurs: its metrics and the means that need them are undefined")
            elif count == len(paired):
                warnings.append(f"{name}_{grade} is all there is: its ranking metrics are undefined")
            elif index > 0 and scores["targets"][name]["classes"][grade]["precision"] == 0:
                warnings.append(f"{name}_{grade} is never called rightly by the decision rule: its precision is 0")
    return warnings


def _resample_warnings(scores: Tree, resampled: Tree, resamples: int) -> list[str]:
    lacking: dict[str, int] = {}
    for name, target in SCORED_TARGETS.items():
        for grade in target.classes:
            drawn = resampled["targets"][name]["classes"][grade]["average_precision"]
            missing = int(np.isnan(drawn).sum())
            if missing and not math.isnan(scores["targets"][name]["classes"][grade]["average_precision"]):
                lacking[f"{name}_{grade}"] = missing
    if not lacking:
        return []
    rare = ", ".join(f"{column} in {count}" for column, count in lacking.items())
    return [f"of {resamples} resamples some lack a class, intervals rest on the others: {rare}"]
