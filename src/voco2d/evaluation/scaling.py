"""Scales the probabilities of a target so that they mean what they say, or cost least in the RSNA score.

`temperature` divides the logarithms of a target's probabilities by one number, fitted with the plain log loss: it makes
them more or less certain and keeps their order (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
`classes` multiplies each class by a factor besides, fitted with the sample-weighted log loss of the RSNA score, whose
weights ask for more than the true probability of an injury (vector scaling with one slope). Neither sees `any_injury`,
which follows from the scaled targets.

Factors are fitted on patients whose label is known and used on others: of an out-of-fold table on the other folds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from voco2d.errors import UsageError
from voco2d.evaluation.alignment import align, choose_rows, probability_table
from voco2d.evaluation.pairing import Aggregate, Paired, aggregate_rows, with_any_injury
from voco2d.evaluation.rsna_score import row_weights
from voco2d.evaluation.tables import check_predictions
from voco2d.targets import RSNA_2023, TargetSet

Scaling = Literal["none", "temperature", "classes"]

_SMALLEST: Final = 1e-7
"""Probabilities below have no certain logarithm: many models write them in 32 bits."""
_SLOPES: Final = (0.05, 20.0)
_FACTORS: Final = (1 / 50, 50.0)
"""Where a fit ends that a class without patients would let run away."""


@dataclass(frozen=True)
class Scaler:
    """How the probabilities of one target are changed: p to the power 1 / temperature times a factor, sum 1.

    Args:
        temperature: Above 0; above 1 makes less certain.
        factors: Of each class; the healthy one has 1.
    """

    temperature: float
    factors: tuple[float, ...]

    def __call__(self, probabilities: Float[np.ndarray, "N classes"]) -> Float[np.ndarray, "N classes"]:
        """Scale rows of probabilities."""
        logs = np.log(np.maximum(probabilities, _SMALLEST)) / self.temperature + np.log(self.factors)
        scaled: Float[np.ndarray, "N classes"] = np.exp(log_softmax(logs, axis=1))
        return scaled


def fit_scaler(
    probabilities: Float[np.ndarray, "N classes"],
    truth: Int[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"] | None = None,
    factors: bool = False,
) -> Scaler:
    """Find the scaler with the lowest log loss, a convex problem.

    Args:
        probabilities: Of patients whose label is known.
        truth: Index of each one's class.
        weights: Of the rows in the loss; 1 if not given.
        factors: Whether classes get factors too.

    Raises:
        UsageError: There are no rows.
    """
    if not len(probabilities):
        raise UsageError("a scaler is fitted on predictions; there are none")
    logs = np.log(np.maximum(probabilities, _SMALLEST))
    rows = np.ones(len(truth)) if weights is None else weights
    share = rows / rows.sum()
    true = np.eye(logs.shape[1])[truth]
    free = logs.shape[1] - 1 if factors else 0

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        offsets = np.concatenate([[0.0], values[1:], np.zeros(logs.shape[1] - 1 - free)])
        scaled = log_softmax(values[0] * logs + offsets, axis=1)
        error = share[:, None] * (np.exp(scaled) - true)
        slopes = np.concatenate([[(error * logs).sum()], error.sum(axis=0)[1 : 1 + free]])
        return float(-(share[:, None] * true * scaled).sum()), slopes

    low, high = np.log(_FACTORS)
    bounds = [_SLOPES, *[(low, high)] * free]
    start = np.array([1.0, *[0.0] * free])
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9})
    chosen = [1.0, *np.exp(found.x[1:]).tolist(), *[1.0] * (logs.shape[1] - 1 - free)]
    return Scaler(1 / float(found.x[0]), tuple(chosen))


def fit_scalers(paired: Paired, scaling: Scaling) -> dict[str, Scaler]:
    """Fit a scaler a target on all rows, to be used on other patients.

    Args:
        paired: One row a patient.
        scaling: `none` gives scalers that change nothing.

    Raises:
        UsageError: There are no rows.
    """
    if scaling == "none":
        return {name: Scaler(1.0, (1.0,) * len(target.classes)) for name, target in paired.targets.items()}
    by_class = scaling == "classes"
    return {
        name: fit_scaler(*paired.labelled(name), row_weights(paired, name) if by_class else None, by_class)
        for name in paired.targets
    }


def scale(paired: Paired, scalers: Mapping[str, Scaler]) -> Paired:
    """Scale the targets, and derive `any_injury` anew."""
    scaled = {name: scalers[name](paired.probabilities[name]) for name in paired.targets}
    return replace(paired, probabilities=with_any_injury(scaled, paired.targets))


def fold_of_rows(paired: Paired, folds: pd.Series) -> Int[np.ndarray, " N"]:
    """Look up the fold of each row's patient.

    Args:
        paired: N rows.
        folds: Fold number by `patient_id`.

    Raises:
        UsageError: A patient is in no fold, or all are in one.
    """
    found = folds.reindex(list(paired.patient_ids))
    if found.isna().any():
        raise UsageError(f"{int(found.isna().sum())} predicted patients are in no fold; give the folds of all")
    numbers: Int[np.ndarray, " N"] = found.to_numpy(np.int64)
    if len(np.unique(numbers)) < 2:
        raise UsageError("all patients are in one fold; what is fitted on some must be used on others")
    return numbers


def cross_fitted(
    rows: Int[np.ndarray, " N"], fit: Callable[[np.ndarray], Any], use: Callable[[np.ndarray, Any], Paired]
) -> Paired:
    """Use on each fold what was fitted on the others.

    Args:
        rows: Fold of each row.
        fit: Takes the numbers of the rows to fit on.
        use: Takes the numbers of the rows to be changed, and what `fit` gave.

    Returns:
        All rows in their order.
    """
    numbers = [np.flatnonzero(rows == fold) for fold in np.unique(rows)]
    parts = [use(held_out, fit(np.setdiff1d(np.arange(len(rows)), held_out))) for held_out in numbers]
    joined = Paired(
        patient_ids=tuple(patient for part in parts for patient in part.patient_ids),
        probabilities={name: np.concatenate([p.probabilities[name] for p in parts]) for name in parts[0].probabilities},
        truth={name: np.concatenate([p.truth[name] for p in parts]) for name in parts[0].truth},
        warnings=parts[0].warnings,
        targets=parts[0].targets,
    )
    return choose_rows(joined, np.argsort(np.concatenate(numbers)))


def cross_scaled(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    folds: pd.Series,
    scaling: Scaling,
    aggregate: Aggregate = "max",
    targets: TargetSet = RSNA_2023,
) -> tuple[pd.DataFrame, dict[str, Scaler]]:
    """Scale each fold with scalers fitted on the other folds, so that what is scored stays out-of-fold.

    Args:
        predictions: Out-of-fold predictions, as `tables.check_predictions`.
        labels: As `tables.check_labels`.
        folds: Fold number by `patient_id`.
        scaling: How.
        aggregate: How a patient's series become one row, before anything is fitted.
        targets: What is scored.

    Returns:
        The scaled table, a row a patient, and the scalers fitted on all of it, for `scale_table` on a test set.

    Raises:
        LabelError: As `pairing.pair`.
        UsageError: As `fold_of_rows` and `fit_scalers`.
    """
    (paired,) = align(labels, [predictions], aggregate, targets)
    scaled = cross_fitted(
        fold_of_rows(paired, folds),
        lambda rows: fit_scalers(choose_rows(paired, rows), scaling),
        lambda rows, scalers: scale(choose_rows(paired, rows), scalers),
    )
    return probability_table(scaled), fit_scalers(paired, scaling)


def scale_table(
    predictions: pd.DataFrame,
    scalers: Mapping[str, Scaler],
    aggregate: Aggregate = "max",
    targets: TargetSet = RSNA_2023,
) -> pd.DataFrame:
    """Scale a table of patients without labels; a row a patient, in the order of their first rows.

    Raises:
        LabelError: As `tables.check_predictions`.
    """
    rows, _ = aggregate_rows(check_predictions(predictions, targets=targets), aggregate, targets)
    scaled = {name: scalers[name](rows[list(target.columns)].to_numpy()) for name, target in targets.items()}
    columns = {c: v for name, t in targets.items() for c, v in zip(t.columns, scaled[name].T, strict=True)}
    return rows.assign(**columns)
