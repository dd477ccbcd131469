"""Who is learnt from, who is validated on and who is tested: parts of a cohort, from folds or from a fixed split."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from voco2d.data.cohort import Cohort, join_labels
from voco2d.data.label_fraction import labelled_part
from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import normalise_ids, read_text_table
from voco2d.targets import RSNA_2023, TargetSet

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

Patients = frozenset[str]


@dataclass(frozen=True)
class Part:
    """The patients of one model.

    Args:
        number: The fold, or 0 for a fixed split.
        train: Whose labels are learnt from.
        held_out: Whom the epoch is chosen on; nobody keeps the last epoch.
        test: Who is graded at the end and never looked at before.
    """

    number: int
    train: Patients
    held_out: Patients
    test: Patients = field(default_factory=frozenset)

    def rows(self, cohort: Cohort, patients: Patients) -> Int64[np.ndarray, " n"]:
        """Return the rows of `Cohort.series` of some patients, rising."""
        return np.flatnonzero(cohort.series["patient_id"].isin(patients).to_numpy())


def fold_parts(
    folds: pd.Series,
    labels: pd.DataFrame,
    numbers: Iterable[int],
    fraction: float,
    seed: int,
    targets: TargetSet = RSNA_2023,
) -> list[Part]:
    """Hold each of the folds `numbers` out and learn from a fraction of the others.

    Args:
        folds: Fold by `patient_id`.
        labels: One row a patient.
        numbers: Folds that are trained.
        fraction: Share of the training patients that is used, as for `labelled_part`.
        seed: Draws them.
        targets: Whose classes the columns of `labels` are.
    """
    parts = []
    for number in numbers:
        inside = labels["patient_id"].map(folds) == number
        train = labels[~inside] if fraction == 1 else _fraction(labels[~inside], fraction, seed, targets)
        parts.append(Part(number, frozenset(train["patient_id"]), frozenset(labels["patient_id"][inside])))
    return parts


def split_part(
    splits: Mapping[str, str], labels: pd.DataFrame, fraction: float, seed: int, targets: TargetSet = RSNA_2023
) -> Part:
    """Make the one part of a fixed split; the arguments are those of `fold_parts`."""
    train = labels[labels["patient_id"].map(splits) == TRAIN]
    if fraction < 1:
        train = _fraction(train, fraction, seed, targets)
    others = {name: frozenset(patient for patient, split in splits.items() if split == name) for name in SPLITS}
    return Part(0, frozenset(train["patient_id"]), others[VALIDATION], others[TEST])


def join_splits(
    index: pd.DataFrame, labels: pd.DataFrame, splits: Mapping[str, str], targets: TargetSet = RSNA_2023
) -> tuple[Cohort, dict[str, str]]:
    """Join a store's index to labels and keep the patients of a split; who is only tested needs no label.

    Args:
        index: `VolumeStore.index`.
        labels: As `read_labels` returns.
        splits: Patient → `train`, `validation` or `test`.
        targets: What the labels are of.

    Returns:
        The cohort, whose series are of labelled and of tested patients; and the splits of its patients.

    Raises:
        LabelError: A split is unknown, a patient to learn from or to validate on has no label, or the store holds
            nobody to learn from or, though the split names some, nobody to validate on or to test.
    """
    unknown = sorted(set(splits.values()) - set(SPLITS))
    if unknown:
        raise LabelError(f"splits: {', '.join(map(repr, unknown))} is no split; use {', '.join(SPLITS)}")
    stored = index["patient_id"].astype(str)
    known = set(labels["patient_id"])
    kept = {patient: split for patient, split in sorted(splits.items()) if patient in set(stored)}
    bare = [patient for patient, split in kept.items() if split != TEST and patient not in known]
    if bare:
        raise LabelError(f"splits: {len(bare)} patients of train or validation have no label; add them to --labels")
    for name in SPLITS:
        if name not in kept.values() and (name == TRAIN or name in splits.values()):
            raise LabelError(f"splits: the store holds no patient of {name}; compare the patient_id of both")
    cohort = join_labels(index, labels[labels["patient_id"].isin(kept)], targets)
    series = index[["key", "patient_id", "series_id"]].astype({"patient_id": str, "series_id": str})
    series.insert(0, "position", np.arange(len(index)))
    series = series[stored.isin(kept).to_numpy()].reset_index(drop=True)
    return Cohort(series, cohort.labels, cohort.unlabelled_series, cohort.unknown_patients, targets), kept


def read_splits(path: Path) -> dict[str, str]:
    """Read a table with the columns `patient_id` and `split`; patient → split.

    Raises:
        UsageError: There is no such file.
        LabelError: A column is missing, a patient is missing or twice, or a split is unknown; rows count from 1.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV with patient_id and split")
    table = read_text_table(path, "give one with patient_id and split")
    missing = {"patient_id", "split"} - set(table.columns)
    if missing:
        raise LabelError(f"{path}: no column {' and '.join(sorted(missing))}; give patient_id and split")
    patients, splits = normalise_ids(table["patient_id"]), table["split"].str.strip().str.lower()
    for wrong, what in (
        (patients == "", "no patient_id"),
        (patients.duplicated(), "a patient that was there before"),
        (~splits.isin(SPLITS), f"a split other than {', '.join(SPLITS)}"),
    ):
        rows = np.flatnonzero(wrong.to_numpy())
        if len(rows):
            raise LabelError(f"{path}: row {rows[0] + 1} has {what}; correct it")
    return dict(zip(patients, splits, strict=True))


def _fraction(labels: pd.DataFrame, fraction: float, seed: int, targets: TargetSet) -> pd.DataFrame:
    return labels[labels["patient_id"].isin(labelled_part(labels, fraction, seed, targets))]
