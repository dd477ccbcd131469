"""A cohort: the series of a store joined to injury labels, and patients split into folds."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from jaxtyping import Int64

from voco2d.errors import ConfigError, LabelError
from voco2d.evaluation.tables import read_label_table
from voco2d.targets import RSNA_2023, TargetSet

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cohort:
    """Series with labels.

    Args:
        series: One row a series: `position` in the store, `key`, `patient_id`, `series_id`.
        labels: One row a patient of `series`, sorted: `patient_id` and the class columns, 0 or 1, NaN where a
            label is missing.
        unlabelled_series: Series of the store whose patients have no labels.
        unknown_patients: Labelled patients of whom the store holds nothing.
        targets: What the labels are of.
    """

    series: pd.DataFrame
    labels: pd.DataFrame
    unlabelled_series: int
    unknown_patients: int
    targets: TargetSet = RSNA_2023


def read_labels(path: Path, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Read a label table: `patient_id` and the class columns as 0/1; further columns are left out.

    Args:
        path: CSV file in the layout of RSNA 2023's `train.csv`; see `check_labels` for what other targets may have.
        targets: Whose classes are the columns.

    Returns:
        Ids as text, rows in the file's order, classes as int64, or as float64 with NaN where a label is missing.

    Raises:
        UsageError: There is no such file.
        LabelError: A column is missing, an id is missing or twice, or a target does not have exactly one 1 in a row;
            rows are named by their number, never by the patient.
    """
    columns = list(targets.columns)
    table = read_label_table(path, targets)[["patient_id", *columns]]
    return table if table[columns].isna().any(axis=None) else table.astype(dict.fromkeys(columns, np.int64))


def join_labels(index: pd.DataFrame, labels: pd.DataFrame, targets: TargetSet = RSNA_2023) -> Cohort:
    """Join a store's index to a label table by patient; what only one of them has is counted and logged.

    Args:
        index: `VolumeStore.index`, row i describing volume i.
        labels: As `read_labels` returns.
        targets: What the labels are of.

    Raises:
        LabelError: They have no patient in common.
    """
    series = index[["key", "patient_id", "series_id"]].astype({"patient_id": str, "series_id": str})
    series.insert(0, "position", np.arange(len(index)))
    series = series[series["patient_id"].isin(labels["patient_id"])].reset_index(drop=True)
    used = labels[labels["patient_id"].isin(series["patient_id"])]
    if used.empty:
        raise LabelError(
            f"none of the {len(labels)} labelled patients is among the {index['patient_id'].nunique()} of the store; "
            "compare the id columns of the two tables (leading zeros, suffixes)"
        )
    cohort = Cohort(
        series=series,
        labels=used.sort_values("patient_id").reset_index(drop=True),
        unlabelled_series=len(index) - len(series),
        unknown_patients=len(labels) - len(used),
        targets=targets,
    )
    _log.info(
        "%d series of %d labelled patients; left out: %d series without labels, %d labelled patients not in the store",
        len(series),
        len(used),
        cohort.unlabelled_series,
        cohort.unknown_patients,
    )
    return cohort


def check_folds(folds: int, patients: int) -> None:
    """Refuse a number of folds that can't be validated on or that there are too few labelled patients for.

    Raises:
        ConfigError: With the way out.
    """
    if folds < 2:
        raise ConfigError(f"folds={folds}: at least 2 are needed, one of them to validate on")
    if patients < 2:
        raise ConfigError(f"{patients} labelled patient(s): folds need at least 2, one to validate on; label more")
    if patients < folds:
        raise ConfigError(f"folds={folds}: only {patients} labelled patients; set folds to {patients} or less")


def make_folds(labels: pd.DataFrame, folds: int, seed: int, targets: TargetSet = RSNA_2023) -> pd.Series:
    """Split patients into folds with like shares of every class (iterative stratification; Sechidis et al., 2011).

    The same patients, labels and seed give the same folds whatever the order of the rows.

    Args:
        labels: One row a patient: `patient_id` and the class columns.
        folds: Number of folds, at least 2.
        seed: Breaks ties.
        targets: Whose classes they are.

    Returns:
        Fold number 0…folds − 1, indexed by `patient_id`, sorted.

    Raises:
        ConfigError: Fewer than 2 folds, or fewer patients than can fill them.
    """
    check_folds(folds, len(labels))
    table = labels.sort_values("patient_id").set_index("patient_id")[list(targets.columns)].fillna(0)
    absent = [column for column in targets.columns if not table[column].any()]
    if absent:
        _log.warning("no patient has %s: nothing can be learnt or measured about that", ", ".join(absent))
    splitter = MultilabelStratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    numbers = np.full(len(table), -1)
    for number, (_, held_out) in enumerate(splitter.split(table.to_numpy(), table.to_numpy())):
        numbers[held_out] = number
    if len(np.unique(numbers)) < folds:
        raise ConfigError(f"folds={folds}: {len(table)} patients leave a fold empty; set fewer folds")
    return pd.Series(numbers, index=table.index, name="fold")


def class_indices(labels: pd.DataFrame, targets: TargetSet = RSNA_2023) -> dict[str, Int64[np.ndarray, " rows"]]:
    """Turn the 0/1 class columns into class indices, target name → (rows); 0 is healthy, −1 a missing label."""
    indices = {}
    for name, target in targets.items():
        values = labels[list(target.columns)].to_numpy(np.float64)
        indices[name] = np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1))
    return indices


def patient_digests(patient_ids: Iterable[str]) -> list[str]:
    """Give sorted one-way digests (blake2b, 8 bytes, hex) of ids, to compare cohorts without spelling patients out."""
    return sorted({blake2b(patient.encode(), digest_size=8).hexdigest() for patient in patient_ids})


def saw_patients(metadata: Mapping[str, object], patient_ids: Iterable[str]) -> bool | None:
    """Say whether pretraining saw any of these patients.

    Args:
        metadata: Of the pretrained checkpoint; its `patients_seen` holds `patient_digests`.
        patient_ids: Patients to be validated on.

    Returns:
        None where the checkpoint doesn't say.
    """
    seen = metadata.get("patients_seen")
    if not isinstance(seen, list):
        return None
    return not set(seen).isdisjoint(patient_digests(patient_ids))
