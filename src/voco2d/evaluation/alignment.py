"""Brings several prediction tables of the same patients into one order, so that row i is the same patient in all."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.pairing import Aggregate, Paired, pair
from voco2d.targets import RSNA_2023, TargetSet


def align(
    labels: pd.DataFrame,
    predictions: Sequence[pd.DataFrame],
    aggregate: Aggregate = "max",
    targets: TargetSet = RSNA_2023,
) -> list[Paired]:
    """Join each table with the labels, rows sorted by patient.

    Args:
        labels: As `tables.check_labels`.
        predictions: Each as `tables.check_predictions`, all of the same patients.
        aggregate: How a patient's series become one row; `none` is refused, since series have no common order.
        targets: What is scored.

    Raises:
        LabelError: As `pairing.pair`, or the tables cover different patients.
        UsageError: There is no table, or `aggregate` is not max or mean.
    """
    if not predictions:
        raise UsageError("there is no prediction table; give at least one")
    if aggregate == "none":
        raise UsageError("aggregate 'none' leaves several rows a patient, whose order no two tables share; use max")
    tables = [sort_rows(pair(table, labels, aggregate, targets)) for table in predictions]
    if any(table.patient_ids != tables[0].patient_ids for table in tables):
        raise LabelError("the prediction tables cover different patients; predict the same patients with all")
    return tables


def sort_rows(paired: Paired) -> Paired:
    """Bring the rows into the order of their patients' ids."""
    return choose_rows(paired, np.argsort(np.asarray(paired.patient_ids, dtype=str), kind="stable"))


def choose_rows(paired: Paired, rows: np.ndarray) -> Paired:
    """Take rows by their numbers, or by a boolean mask, in that order; the warnings stay."""
    return Paired(
        patient_ids=tuple(np.asarray(paired.patient_ids, dtype=object)[rows]),
        probabilities={name: values[rows] for name, values in paired.probabilities.items()},
        truth={name: values[rows] for name, values in paired.truth.items()},
        warnings=paired.warnings,
        targets=paired.targets,
    )


def stack_rows(first: Paired, second: Paired) -> Paired:
    """Lay the rows of two tables below each other, without their warnings."""
    return Paired(
        patient_ids=(*first.patient_ids, *second.patient_ids),
        probabilities={
            name: np.concatenate([values, second.probabilities[name]]) for name, values in first.probabilities.items()
        },
        truth={name: np.concatenate([values, second.truth[name]]) for name, values in first.truth.items()},
        targets=first.targets,
    )


def probability_table(paired: Paired) -> pd.DataFrame:
    """Lay predictions out as a table: `patient_id` and the classes."""
    columns = {
        column: values
        for name, target in paired.targets.items()
        for column, values in zip(target.columns, paired.probabilities[name].T, strict=True)
    }
    return pd.DataFrame({"patient_id": list(paired.patient_ids), **columns})
