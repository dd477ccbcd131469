"""Blends several models: weights a target, fitted on out-of-fold predictions, and what they score on patients unseen.

A blend is a weighted mean of the models' probabilities, weights non-negative with sum 1, another set a target, which
minimise the sample-weighted log loss of that target: a convex problem with one lowest value. `any_injury` follows from
the blend and is not fitted. Scores are reported of predictions that each fold got from weights (and scalers) fitted on
the other folds; the weights that are kept, for a test set, are fitted on all folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import LinearConstraint, minimize

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.alignment import align, choose_rows, probability_table
from voco2d.evaluation.pairing import Aggregate, Paired, aggregate_rows, with_any_injury
from voco2d.evaluation.rsna_score import EPSILON, row_weights
from voco2d.evaluation.scaling import Scaler, Scaling, cross_fitted, fit_scalers, fold_of_rows, scale
from voco2d.evaluation.tables import check_predictions
from voco2d.targets import RSNA_2023, TargetSet

_FOLDS: Final = 5


@dataclass(frozen=True)
class Ensemble:
    """What was fitted, ready for other patients.

    Args:
        weights: For each target the weight of each model, 0 or more, sum 1.
        scalers: For each target what is done to the blend.
        targets: What is graded.
    """

    weights: Mapping[str, tuple[float, ...]]
    scalers: Mapping[str, Scaler]
    targets: TargetSet = RSNA_2023

    def __call__(self, tables: Sequence[pd.DataFrame], aggregate: Aggregate = "max") -> pd.DataFrame:
        """Blend and scale predictions of patients without labels.

        Args:
            tables: One a model, in the order the ensemble was fitted in, each as `tables.check_predictions`.
            aggregate: How a patient's series become one row, before the blend.

        Returns:
            `patient_id` and the classes, patients in the order of the first table.

        Raises:
            LabelError: A table is not as it must be, or they cover different patients.
            UsageError: There are not as many tables as models.
        """
        models = len(next(iter(self.weights.values())))
        if len(tables) != models:
            raise UsageError(f"{len(tables)} tables for an ensemble of {models} models; give one a model, in its order")
        checked = [check_predictions(table, targets=self.targets) for table in tables]
        rows = [aggregate_rows(table, aggregate, self.targets)[0].set_index("patient_id") for table in checked]
        if any(set(other.index) != set(rows[0].index) for other in rows):
            raise LabelError("the prediction tables cover different patients; predict the same patients with all")
        blend = rows[0].copy()
        for name, target in self.targets.items():
            columns = list(target.columns)
            stacked = np.stack([table.loc[blend.index, columns].to_numpy() for table in rows])
            blend[columns] = self.scalers[name](np.tensordot(self.weights[name], stacked, axes=1))
        return blend[list(self.targets.columns)].reset_index()


def fit_ensemble(
    predictions: Sequence[pd.DataFrame],
    labels: pd.DataFrame,
    folds: pd.Series | None = None,
    scaling: Scaling = "none",
    aggregate: Aggregate = "max",
    targets: TargetSet = RSNA_2023,
) -> tuple[Ensemble, pd.DataFrame]:
    """Fit weights and scalers.

    Args:
        predictions: Out-of-fold predictions of the same patients, one table a model.
        labels: As `tables.check_labels`.
        folds: Fold number by `patient_id`; by default five folds alike in how many targets are injured.
        scaling: What is done to the blend, see `scaling`.
        aggregate: How a patient's series become one row, before the blend.
        targets: What is graded.

    Returns:
        The ensemble fitted on all folds, and the table of predictions that each fold got from the others.

    Raises:
        LabelError: As `alignment.align`.
        UsageError: As `alignment.align` and `scaling.fold_of_rows`.
    """
    models = align(labels, predictions, aggregate, targets)
    fold_of_row = _default_folds(models[0]) if folds is None else fold_of_rows(models[0], folds)

    def fit(rows: np.ndarray) -> Ensemble:
        chosen = [choose_rows(model, rows) for model in models]
        weights = fit_weights(chosen)
        return Ensemble(weights, fit_scalers(blend(chosen, weights), scaling), targets)

    def use(rows: np.ndarray, fitted: Ensemble) -> Paired:
        return scale(blend([choose_rows(model, rows) for model in models], fitted.weights), fitted.scalers)

    out_of_fold = cross_fitted(fold_of_row, fit, use)
    return fit(np.arange(len(models[0]))), probability_table(out_of_fold)


def fit_weights(models: Sequence[Paired]) -> dict[str, tuple[float, ...]]:
    """Find for each target the weights with the lowest sample-weighted log loss on these rows."""
    weights = {}
    for name in models[0].targets:
        _, truth = models[0].labelled(name)
        if not len(truth):
            raise UsageError(f"no patient here has a label of {name}; weights can't be fitted on them")
        rows = np.arange(len(truth))
        given = np.stack([model.labelled(name)[0][rows, truth] for model in models])
        weights[name] = tuple(mixture_weights(given, row_weights(models[0], name)).tolist())
    return weights


def mixture_weights(
    given: Float[np.ndarray, "models N"], row_weight: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " models"]:
    """Minimise the mean over rows of −log Σ weight × probability.

    Args:
        given: Probability that each model gives the true class of each row.
        row_weight: How much each row counts.

    Returns:
        Weights of 0 or more with sum 1.
    """
    share, models = row_weight / row_weight.sum(), len(given)
    safe = np.clip(given, EPSILON, 1 - EPSILON)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ safe, EPSILON)
        return float(-share @ np.log(mixed)), -(safe / mixed) @ share

    found = minimize(
        loss,
        np.full(models, 1 / models),
        jac=True,
        bounds=[(0.0, 1.0)] * models,
        constraints=LinearConstraint(np.ones((1, models)), 1, 1),
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    kept = np.where(found.x > 1e-6, found.x, 0.0)
    weights: Float[np.ndarray, " models"] = kept / kept.sum()
    return weights


def blend(models: Sequence[Paired], weights: Mapping[str, Sequence[float]]) -> Paired:
    """Average the targets of models whose rows are aligned, and derive `any_injury` anew."""
    mixed = {
        name: np.tensordot(weights[name], np.stack([model.probabilities[name] for model in models]), axes=1)
        for name in models[0].targets
    }
    return replace(models[0], probabilities=with_any_injury(mixed, models[0].targets))


def _default_folds(paired: Paired) -> Int[np.ndarray, " N"]:
    """Deal patients out to folds, those with as many injured targets one after the other, in a fixed random order."""
    if len(paired) < 2:
        raise UsageError("one patient is too few to fit on some and score others")
    injured = np.sum([paired.truth[name] > 0 for name in paired.targets], axis=0)
    order = np.lexsort((np.random.default_rng(0).permutation(len(paired)), injured))
    numbers = np.empty(len(paired), dtype=np.int64)
    numbers[order] = np.arange(len(paired)) % min(_FOLDS, len(paired))
    return numbers
