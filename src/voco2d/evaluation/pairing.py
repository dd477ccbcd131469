"""Brings predictions and labels of the same patients together as arrays, one row a thing to be scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import NOT_ASSESSED, check_labels, check_predictions
from voco2d.targets import ANY_INJURY, CLASS_COLUMNS, TARGETS, Target

Aggregate = Literal["max", "mean", "none"]
SCORED_TARGETS: Final[Mapping[str, Target]] = {**TARGETS, ANY_INJURY.name: ANY_INJURY}
"""The five targets and the derived one, in the order of tables and reports."""

_SUM_TOLERANCE = 1e-3
"""Rows that miss 1 by less were rounded when they were written: renormalised without a word."""


@dataclass(frozen=True)
class Paired:
    """Predictions beside the truth; N rows, each a patient or one series of a patient.

    Args:
        patient_ids: Patient of each row.
        probabilities: For each of `SCORED_TARGETS` the probability of each class; rows sum to 1.
        truth: For each of `SCORED_TARGETS` the index of the true class.
        warnings: What was left out or changed on the way, in words.
    """

    patient_ids: tuple[str, ...]
    probabilities: Mapping[str, Float[np.ndarray, "N classes"]]
    truth: Mapping[str, Int[np.ndarray, " N"]]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.patient_ids)


def pair(predictions: pd.DataFrame, labels: pd.DataFrame, aggregate: Aggregate = "max") -> Paired:
    """Check both tables, aggregate the series of a patient and join by `patient_id`.

    Decisions: rows with status `not_assessed` are left out and counted. Labelled patients without a prediction are left
    out and counted, since predictions for a subset (a fold, a test set) are common; a predicted patient without a label
    is an error, since it points to the wrong label table. Each target of a row is divided by its sum, as the official
    metric does; rows that were further from 1 than 0.001 are counted. `any_injury` follows from the divided values.

    Args:
        predictions: As `tables.check_predictions`.
        labels: As `tables.check_labels`.
        aggregate: `max` takes each column's maximum over a patient's rows, `mean` its mean, both renormalised;
            `none` scores each row.

    Raises:
        LabelError: A table is not as it must be, a predicted patient has no label, or nothing is left to score.
        UsageError: `aggregate` is not one of the three.
    """
    check_aggregate(aggregate)
    predictions, labels = check_predictions(predictions), check_labels(labels)
    labels = labels.set_index("patient_id")
    _refuse_unknown(predictions, labels.index)
    rows, warnings = aggregate_rows(predictions, aggregate)
    unpredicted = len(labels.index.difference(pd.Index(rows["patient_id"])))
    if unpredicted:
        warnings.append(f"{unpredicted} of {len(labels)} labelled patients have no prediction and are left out")
    truth = labels.loc[rows["patient_id"], list(CLASS_COLUMNS)]
    return Paired(
        patient_ids=tuple(rows["patient_id"]),
        probabilities=with_any_injury({name: rows[list(t.columns)].to_numpy() for name, t in TARGETS.items()}),
        truth={
            name: probabilities.argmax(axis=1)
            for name, probabilities in with_any_injury(
                {name: truth[list(t.columns)].to_numpy() for name, t in TARGETS.items()}
            ).items()
        },
        warnings=tuple(warnings),
    )


def aggregate_rows(predictions: pd.DataFrame, aggregate: Aggregate = "max") -> tuple[pd.DataFrame, list[str]]:
    """Leave out what was not assessed, divide each target by its sum, and make one row of a patient's series.

    Args:
        predictions: As `tables.check_predictions` returns them.
        aggregate: As in `pair`.

    Returns:
        `patient_id` and the 13 classes, patients in the order of their first rows; and what was left out or changed.

    Raises:
        LabelError: No row was assessed.
    """
    predictions, warnings = _assessed(predictions)
    again = int(predictions.duplicated(["patient_id", "series_id"]).sum()) if "series_id" in predictions else 0
    if again:
        warnings.append(f"{again} of {len(predictions)} rows repeat the patient and series of an earlier row")
    rows, far = _renormalise(predictions[["patient_id", *CLASS_COLUMNS]])
    if far:
        warnings.append(f"{far} of {len(rows)} rows had probabilities that do not sum to 1 and were renormalised")
    if aggregate != "none":
        classes = rows.groupby("patient_id", sort=False, as_index=False)[list(CLASS_COLUMNS)]
        rows, _ = _renormalise(classes.agg(aggregate))
    return rows, warnings


def check_aggregate(aggregate: str) -> None:
    """Refuse with a `UsageError` what is not an `Aggregate`."""
    if aggregate not in get_args(Aggregate):
        raise UsageError(f"aggregate {aggregate!r} is unknown; use one of {', '.join(get_args(Aggregate))}")


def with_any_injury(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add `any_injury` to the probabilities, or 0/1 labels, of the five targets: the maximum of 1 − healthy."""
    injury = np.max([1 - columns[:, 0] for columns in values.values()], axis=0)
    return {**values, ANY_INJURY.name: np.stack([1 - injury, injury], axis=1)}


def _assessed(predictions: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    if "status" not in predictions:
        return predictions, []
    left_out = (predictions["status"] == NOT_ASSESSED).to_numpy()
    if left_out.all():
        raise LabelError("predictions: no row was assessed; see the reasons in the table and predict again")
    count = int(left_out.sum())
    warnings = [f"{count} of {len(predictions)} rows were not assessed and are left out"] if count else []
    return predictions.loc[~left_out].reset_index(drop=True), warnings


def _refuse_unknown(predictions: pd.DataFrame, labelled: pd.Index) -> None:
    predicted = _assessed(predictions)[0]["patient_id"]
    unknown = np.flatnonzero(~predicted.isin(labelled).to_numpy())
    if len(unknown):
        patients = predicted.iloc[unknown].nunique()
        raise LabelError(
            f"predictions: {patients} patient(s) have no row in the label table, first in row {unknown[0] + 1}"
            " of the assessed; give the labels of this cohort or leave those rows out"
        )


def _renormalise(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Divide each target by its sum; count the rows that were not rounded but wrong."""
    far = np.zeros(len(rows), dtype=bool)
    divided: dict[str, np.ndarray] = {}
    for target in TARGETS.values():
        values = rows[list(target.columns)].to_numpy()
        total = values.sum(axis=1, keepdims=True)
        far |= np.abs(total[:, 0] - 1) > _SUM_TOLERANCE
        divided |= dict(zip(target.columns, (values / total).T, strict=True))
    return rows.assign(**divided), int(far.sum())
