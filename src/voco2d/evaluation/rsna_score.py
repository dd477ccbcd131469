"""The score: the mean of the targets' sample-weighted log losses, lower is better; RSNA 2023's where they are its six.

Of other targets the same mean is called `score`, so that nobody takes it for the challenge's.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from voco2d.evaluation.pairing import Paired, pair
from voco2d.targets import ORGANS, TargetSet

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
    return score_parts(paired)


def score_name(targets: TargetSet) -> str:
    """Name the mean of `score_parts`: `rsna` for RSNA 2023's targets, `score` for others."""
    return "rsna" if targets.is_rsna else "score"


def score_parts(paired: Paired) -> dict[str, float]:
    """Compute each target's sample-weighted log loss, NaN where no row counts, and their `mean`."""
    losses = {}
    for name in paired.targets.scored:
        weights = row_weights(paired, name)
        total = weights.sum()
        losses[name] = float(weights @ row_losses(paired, name) / total) if total > 0 else np.nan
    return {**losses, "mean": sum(losses.values()) / len(losses)}


def rsna_organs(parts: Mapping[str, Any]) -> Any:
    """Average kidney, liver and spleen of `score_parts`, floats or arrays: the paper's score, unlike `mean`."""
    return sum(parts[organ] for organ in ORGANS) / len(ORGANS)


def row_losses(paired: Paired, target: str) -> Float[np.ndarray, " n"]:
    """Compute −log of the probability given to the true class, a labelled row at a time."""
    probabilities, truth = paired.labelled(target)
    given = np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
    losses: Float[np.ndarray, " n"] = -np.log(np.clip(given, EPSILON, 1 - EPSILON))
    return losses


def row_weights(paired: Paired, target: str) -> Float[np.ndarray, " n"]:
    """Look up the sample weight of each labelled row's true class (docs/evaluation.md)."""
    weights: Float[np.ndarray, " n"] = np.asarray(paired.targets.scored[target].weights)[paired.labelled(target)[1]]
    return weights
