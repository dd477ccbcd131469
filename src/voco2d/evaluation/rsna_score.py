"""The score of the RSNA 2023 trauma challenge: the mean of six sample-weighted log losses, lower is better."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from voco2d.evaluation.pairing import SCORED_TARGETS, Paired, pair
from voco2d.targets import ORGANS

_log = logging.getLogger(__name__)

EPSILON: Final = float(np.finfo(np.float64).eps)
"""Probabilities are clipped to [EPSILON, 1 − EPSILON] before the logarithm, as by scikit-learn's `log_loss`."""


def rsna_score(predictions: pd.DataFrame, labels: pd.DataFrame) -> dict[str, float]:
    """Score each row of `predictions` against the labels of its patient.

    The challenge scores a patient at a time: where a patient has several rows, aggregate them first
    (`voco2d.evaluation.evaluate.evaluate` does) or the patient counts once a row.

    Args:
        predictions: `patient_id` and the 13 class columns; each target is renormalised.
        labels: `patient_id` and the same columns as 0/1; patients that are not predicted are left out.

    Returns:
        `bowel`, `extravasation`, `kidney`, `liver`, `spleen`, `any_injury` and their `mean`.

    Raises:
        LabelError: As `pairing.pair`.
    """
    paired = pair(predictions, labels, aggregate="none")
    for warning in paired.warnings:
        _log.info("%s", warning)
    return rsna_parts(paired)


def rsna_parts(paired: Paired) -> dict[str, float]:
    """Compute the six sample-weighted log losses and their mean."""
    losses = {}
    for name in SCORED_TARGETS:
        weights = row_weights(paired, name)
        losses[name] = float(weights @ row_losses(paired, name) / weights.sum())
    return {**losses, "mean": sum(losses.values()) / len(losses)}


def rsna_organs(parts: Mapping[str, Any]) -> Any:
    """Average kidney, liver and spleen of `rsna_parts`, floats or arrays: the paper's score, unlike `mean`."""
    return sum(parts[organ] for organ in ORGANS) / len(ORGANS)


def row_losses(paired: Paired, target: str) -> Float[np.ndarray, " N"]:
    """Compute −log of the probability given to the true class, a row at a time."""
    probabilities, truth = paired.probabilities[target], paired.truth[target]
    given = np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
    losses: Float[np.ndarray, " N"] = -np.log(np.clip(given, EPSILON, 1 - EPSILON))
    return losses


def row_weights(paired: Paired, target: str) -> Float[np.ndarray, " N"]:
    """Look up the sample weight of each row's true class (DESIGN.md, 2)."""
    weights: Float[np.ndarray, " N"] = np.asarray(SCORED_TARGETS[target].weights)[paired.truth[target]]
    return weights
