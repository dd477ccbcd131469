"""Brings predictions and labels of the same patients together as arrays, one row a thing to be scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import NOT_ASSESSED, check_labels, check_predictions
from voco2d.targets import RSNA_2023, TargetSet

Aggregate = Literal["max", "mean", "none"]

_SUM_TOLERANCE = 1e-3
"""Rows that miss 1 by less were rounded when they were written: renormalised without a word."""


@dataclass(frozen=True)
class Paired:
    """Predictions beside the truth; N rows, each a patient or one series of a patient.

    Args:
        patient_ids: Patient of each row.
        probabilities: For each of `targets.scored` the probability of each class; rows sum to 1.
        truth: For each of `targets.scored` the index of the true class, −1 where it isn't known.
        warnings: What was left out or changed on the way, in words.
        targets: What is scored.
    """

    patient_ids: tuple[str, ...]
    probabilities: Mapping[str, Float[np.ndarray, "N classes"]]
    truth: Mapping[str, Int[np.ndarray, " N"]]
    warnings: tuple[str, ...] = ()
    targets: TargetSet = RSNA_2023

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.patient_ids)

    def known(self, name: str) -> Bool[np.ndarray, " N"]:
        """Tell which rows have a label of a target."""
        has_label: Bool[np.ndarray, " N"] = self.truth[name] >= 0
        return has_label

    def labelled(self, name: str) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
        """Return probabilities and truth of the rows that have a label of a target."""
        known = self.known(name)
        if known.all():
            return self.probabilities[name], self.truth[name]
        return self.probabilities[name][known], self.truth[name][known]

    def counted(self, name: str, times: Float[np.ndarray, "N draws"]) -> Float[np.ndarray, "n draws"]:
        """Take from how often each row counts the rows that have a label of a target."""
        known = self.known(name)
        return times if known.all() else times[known]


def pair(
    predictions: pd.DataFrame, labels: pd.DataFrame, aggregate: Aggregate = "max", targets: TargetSet = RSNA_2023
) -> Paired:
    """Check both tables, aggregate the series of a patient and join by `patient_id`.

    Decisions: rows with status `not_assessed` are left out and counted. Labelled patients without a prediction are left
    out and counted, since predictions for a subset (a fold, a test set) are common; a predicted patient without a label
    is an error, since it points to the wrong label table. Each target of a row is divided by its sum, as the official
    metric does; rows that were further from 1 than 0.001 are counted. `any_injury` follows from the divided values.
    A label that is missing leaves its row out of that target alone.

    Args:
        predictions: As `tables.check_predictions`.
        labels: As `tables.check_labels`.
        aggregate: `max` takes each column's maximum over a patient's rows, `mean` its mean, both renormalised;
            `none` scores each row.
        targets: What is scored.

    Raises:
        LabelError: A table is not as it must be, a predicted patient has no label, or nothing is left to score.
        UsageError: `aggregate` is not one of the three.
    """
    check_aggregate(aggregate)
    predictions, labels = check_predictions(predictions, targets=targets), check_labels(labels, targets=targets)
    labels = labels.set_index("patient_id")
    _refuse_unknown(predictions, labels.index)
    rows, warnings = aggregate_rows(predictions, aggregate, targets)
    unpredicted = len(labels.index.difference(pd.Index(rows["patient_id"])))
    if unpredicted:
        warnings.append(f"{unpredicted} of {len(labels)} labelled patients have no prediction and are left out")
    truth = labels.loc[rows["patient_id"], list(targets.columns)]
    warnings += _unlabelled(truth, targets)
    return Paired(
        patient_ids=tuple(rows["patient_id"]),
        probabilities=with_any_injury({name: rows[list(t.columns)].to_numpy() for name, t in targets.items()}, targets),
        truth={
            name: np.where(np.isnan(classes[:, 0]), -1, classes.argmax(axis=1))
            for name, classes in with_any_injury(
                {name: truth[list(t.columns)].to_numpy() for name, t in targets.items()}, targets
            ).items()
        },
        warnings=tuple(warnings),
        targets=targets,
    )


def aggregate_rows(
    predictions: pd.DataFrame, aggregate: Aggregate = "max", targets: TargetSet = RSNA_2023
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out what was not assessed, divide each target by its sum, and make one row of a patient's series.

    Args:
        predictions: As `tables.check_predictions` returns them.
        aggregate: As in `pair`.
        targets: Whose classes they are.

    Returns:
        `patient_id` and the classes, patients in the order of their first rows; and what was left out or changed.

    Raises:
        LabelError: No row was assessed.
    """
    predictions, warnings = _assessed(predictions)
    again = int(predictions.duplicated(["patient_id", "series_id"]).sum()) if "series_id" in predictions else 0
    if again:
        warnings.append(f"{again} of {len(predictions)} rows repeat the patient and series of an earlier row")
    rows, far = _renormalise(predictions[["patient_id", *targets.columns]], targets)
    if far:
        warnings.append(f"{far} of {len(rows)} rows had probabilities that do not sum to 1 and were renormalised")
    if aggregate != "none":
        classes = rows.groupby("patient_id", sort=False, as_index=False)[list(targets.columns)]
        rows, _ = _renormalise(classes.agg(aggregate), targets)
    return rows, warnings


def check_aggregate(aggregate: str) -> None:
    """Refuse with a `UsageError` what is not an `Aggregate`."""
    if aggregate not in get_args(Aggregate):
        raise UsageError(f"aggregate {aggregate!r} is unknown; use one of {', '.join(get_args(Aggregate))}")


def with_any_injury(values: Mapping[str, np.ndarray], targets: TargetSet = RSNA_2023) -> dict[str, np.ndarray]:
    """Add the derived target, if there is one, to probabilities or 0/1 labels: the maximum of 1 − healthy."""
    if targets.derived is None:
        return dict(values)
    injury = np.max([1 - columns[:, 0] for columns in values.values()], axis=0)
    return {**values, targets.derived.name: np.stack([1 - injury, injury], axis=1)}


def _unlabelled(truth: pd.DataFrame, targets: TargetSet) -> list[str]:
    missing = {name: int(truth[target.columns[0]].isna().sum()) for name, target in targets.items()}
    told = ", ".join(f"{name} of {count}" for name, count in missing.items() if count)
    return [f"labels are missing, and these rows left out of that target: {told} of {len(truth)} rows"] if told else []


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


def _renormalise(rows: pd.DataFrame, targets: TargetSet) -> tuple[pd.DataFrame, int]:
    """Divide each target by its sum; count the rows that were not rounded but wrong."""
    far = np.zeros(len(rows), dtype=bool)
    divided: dict[str, np.ndarray] = {}
    for target in targets.values():
        values = rows[list(target.columns)].to_numpy()
        total = values.sum(axis=1, keepdims=True)
        far |= np.abs(total[:, 0] - 1) > _SUM_TOLERANCE
        divided |= dict(zip(target.columns, (values / total).T, strict=True))
    return rows.assign(**divided), int(far.sum())
