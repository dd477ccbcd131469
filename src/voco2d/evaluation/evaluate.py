"""Everything `voco2d evaluate` says about one prediction table."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from voco2d.evaluation.calibration import brier_score, expected_calibration_error
from voco2d.evaluation.delong import area_under_curve
from voco2d.evaluation.metrics import decide
from voco2d.evaluation.ordinal import confusion
from voco2d.evaluation.pairing import Aggregate, Paired, pair
from voco2d.evaluation.scores import Tree, point_scores
from voco2d.evaluation.significance import CONFIDENCE, intervals, resampled_scores
from voco2d.evaluation.subgroups import known_groups, subgroup_scores
from voco2d.evaluation.tables import check_predictions
from voco2d.targets import RSNA_2023, TargetSet


def evaluate(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    aggregate: Aggregate = "max",
    bootstrap: int = 0,
    seed: int = 0,
    groups: pd.DataFrame | None = None,
    targets: TargetSet = RSNA_2023,
) -> dict[str, Any]:
    """Score a prediction table; the result goes into JSON as it is.

    Args:
        predictions: As `tables.check_predictions`.
        labels: As `tables.check_labels`.
        aggregate: How the series of a patient become one row, see `pairing.pair`.
        bootstrap: Resamples for 95 % intervals; 0 for none.
        seed: Of the resamples.
        groups: Subgroups to score as well, as `subgroups.group_patients` returns them; how many series a patient has
            is one by itself where that differs.
        targets: What is scored.

    Returns:
        The tree of `scores.score_tree`, undefined leaves None, where each target has besides `n` (rows with a label),
        `confusion` (rows by true and by called class), and each of its classes `n` (rows of that class);
        `calibration` {target: {`ece`, `brier`}} of 1 − p(first class), with their `mean` over the targets; `delong`
        {target: {class: the fields of `delong.Area`, or None}} where a row is a patient; `subgroups` as
        `subgroups.subgroup_scores`, where there are any; `aggregate`, `n_rows`, `n_patients`, `warnings`. With
        `bootstrap`: `bootstrap` {`resamples`, `seed`, `confidence`} and `intervals`, the same tree with `[low, high]`
        at each leaf.

    Raises:
        LabelError: As `pairing.pair`.
        UsageError: `aggregate` or `bootstrap` is not what it may be.
    """
    known = known_groups(check_predictions(predictions, targets=targets), groups)
    return evaluate_paired(pair(predictions, labels, aggregate, targets), aggregate, bootstrap, seed, known)


def evaluate_paired(
    paired: Paired, aggregate: Aggregate, bootstrap: int = 0, seed: int = 0, groups: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Score what `pairing.pair` has joined; otherwise as `evaluate`."""
    scores = point_scores(paired)
    result: dict[str, Any] = _with_counts(_nullable(scores), paired)
    result["calibration"] = _calibration(paired)
    if aggregate != "none":
        result["delong"] = _areas(paired)
    result |= {"aggregate": aggregate, "n_rows": len(paired), "n_patients": len(set(paired.patient_ids))}
    result["warnings"] = [*paired.warnings, *_class_warnings(paired, scores)]
    if bootstrap:
        resampled = resampled_scores(paired, bootstrap, seed)
        result["bootstrap"] = {"resamples": bootstrap, "seed": seed, "confidence": CONFIDENCE}
        result["intervals"] = intervals(scores, resampled)
        result["warnings"] += _resample_warnings(scores, resampled, bootstrap, paired.targets)
    if groups is not None:
        result["subgroups"], told = subgroup_scores(paired, groups, bootstrap, seed)
        result["warnings"] += told
    return result


def _nullable(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _nullable(value) for key, value in tree.items()}
    return None if math.isnan(tree) else float(tree)


def _with_counts(result: Tree, paired: Paired) -> Tree:
    for name, target in paired.targets.scored.items():
        probabilities, truth = paired.labelled(name)
        result["targets"][name]["n"] = len(truth)
        called = decide(probabilities, target)
        result["targets"][name]["confusion"] = confusion(truth, called, len(target.classes)).tolist()
        counts = np.bincount(truth, minlength=len(target.classes))
        for grade, count in zip(target.classes, counts, strict=True):
            result["targets"][name]["classes"][grade]["n"] = int(count)
    return result


def _calibration(paired: Paired) -> dict[str, dict[str, float | None]]:
    values: dict[str, dict[str, float | None]] = {}
    for name in paired.targets.scored:
        probabilities, truth = paired.labelled(name)
        if not len(truth):
            values[name] = {"ece": None, "brier": None}
            continue
        injured, probability = truth > 0, 1 - probabilities[:, 0]
        values[name] = {
            "ece": expected_calibration_error(injured, probability),
            "brier": brier_score(injured, probability),
        }
    mean: dict[str, float | None] = {}
    for key in ("ece", "brier"):
        known = [value for entry in values.values() if (value := entry[key]) is not None]
        mean[key] = float(np.mean(known)) if len(known) == len(values) else None
    return {**values, "mean": mean}


def _areas(paired: Paired) -> dict[str, dict[str, dict[str, float] | None]]:
    areas: dict[str, dict[str, dict[str, float] | None]] = {}
    for name, target in paired.targets.scored.items():
        areas[name] = {}
        probabilities, truth = paired.labelled(name)
        for index, grade in enumerate(target.classes):
            positive = truth == index
            told = 2 <= positive.sum() <= len(positive) - 2
            area = area_under_curve(positive, probabilities[:, index]) if told else None
            areas[name][grade] = None if area is None else asdict(area)
    return areas


def _class_warnings(paired: Paired, scores: Tree) -> list[str]:
    warnings = []
    for name, target in paired.targets.scored.items():
        _, truth = paired.labelled(name)
        for index, grade in enumerate(target.classes):
            count = int((truth == index).sum())
            if count == 0:
                warnings.append(f"{name}_{grade} never occurs: its metrics and the means that need them are undefined")
            elif count == len(truth):
                warnings.append(f"{name}_{grade} is all there is: its ranking metrics are undefined")
            elif index > 0 and scores["targets"][name]["classes"][grade]["precision"] == 0:
                warnings.append(f"{name}_{grade} is never called rightly by the decision rule: its precision is 0")
    return warnings


def _resample_warnings(scores: Tree, resampled: Tree, resamples: int, targets: TargetSet) -> list[str]:
    lacking: dict[str, int] = {}
    for name, target in targets.scored.items():
        for grade in target.classes:
            drawn = resampled["targets"][name]["classes"][grade]["average_precision"]
            missing = int(np.isnan(drawn).sum())
            if missing and not math.isnan(scores["targets"][name]["classes"][grade]["average_precision"]):
                lacking[f"{name}_{grade}"] = missing
    if not lacking:
        return []
    rare = ", ".join(f"{column} in {count}" for column, count in lacking.items())
    return [f"of {resamples} resamples some lack a class, intervals rest on the others: {rare}"]
