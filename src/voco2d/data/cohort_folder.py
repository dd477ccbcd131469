"""The files of `voco2d cohort`: folds, series, and who may be pretrained on when a fold is validated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voco2d.data.cohort import Cohort, patient_digests
from voco2d.data.cohort_folds import any_injury, read_folds
from voco2d.data.pretrain_overlap import refuse_overlap
from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import normalise_ids, read_text_table

FOLDS_NAME = "folds.csv"
SERIES_NAME = "series.csv"
LABELS_NAME = "labels.csv"
SUMMARY_NAME = "cohort.json"
_META = ("aortic_hu", "incomplete_organ")
_FORMAT = 1


@dataclass(frozen=True)
class CohortFolder:
    """A folder that `voco2d cohort` has written.

    Args:
        path: The folder.
        folds: Fold 0…n − 1 by `patient_id`, sorted.
    """

    path: Path
    folds: pd.Series

    @classmethod
    def read(cls, path: Path) -> "CohortFolder":
        """Read the folds.

        Raises:
            UsageError: It is no such folder.
            LabelError: Its folds can't be used.
        """
        if not (path / FOLDS_NAME).is_file():
            raise UsageError(f"{path}: holds no {FOLDS_NAME}; make it with `voco2d cohort STORE --out {path}`")
        return cls(path, read_folds(path / FOLDS_NAME))

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    @property
    def labels(self) -> Path:
        """Table of the labels that the folds were made for."""
        return self.path / LABELS_NAME

    def patients_for_pretraining(self, fold: int) -> list[str]:
        """Read who may be pretrained on when `fold` is validated, sorted.

        Raises:
            UsageError: There is no such fold, or its list is missing.
            LabelError: The list can't be used, or names patients of the fold.
        """
        self.check_fold(fold)
        path = self.path / pretrain_name(fold)
        if not path.is_file():
            raise UsageError(f"{path}: missing; make the cohort anew with `voco2d cohort`")
        table = read_text_table(path, "make the cohort anew with `voco2d cohort`")
        if "patient_id" not in table:
            raise LabelError(f"{path}: no column patient_id; make the cohort anew with `voco2d cohort`")
        patients = sorted(set(normalise_ids(table["patient_id"])))
        refuse_overlap(self.folds, patient_digests(patients), [fold], path)
        return patients

    def check_fold(self, fold: int) -> None:
        """Refuse a fold that isn't there.

        Raises:
            UsageError: With the folds there are.
        """
        if not 0 <= fold < self.count:
            raise UsageError(f"fold {fold}: {self.path} has folds 0…{self.count - 1}")


def pretrain_name(fold: int) -> str:
    """Name the list of patients that may be pretrained on when `fold` is validated."""
    return f"pretrain_fold{fold}.csv"


def series_table(index: pd.DataFrame, folds: pd.Series, meta: pd.DataFrame | None) -> pd.DataFrame:
    """Lay out every series of a store with its fold and what is known of it.

    Args:
        index: `VolumeStore.index`; its own `aortic_hu` and `incomplete_organ` fill what `meta` leaves empty.
        folds: Fold by `patient_id`.
        meta: As `io.rsna_series.read_series_table` returns, or None.

    Returns:
        `key`, `patient_id`, `series_id`, `fold` (missing where the patient has no labels), `aortic_hu` in HU and
        `incomplete_organ` 0 or 1 (missing where not known), sorted by patient, series and key.

    Raises:
        LabelError: `meta` knows none of the series.
    """
    table = index[["key", "patient_id", "series_id"]].astype(str)
    table["fold"] = table["patient_id"].map(folds).astype("Int64")
    known = index.reindex(columns=list(_META)).reset_index(drop=True)
    ids = pd.MultiIndex.from_frame(table[["patient_id", "series_id"]])
    if meta is not None:
        given = meta.set_index(["patient_id", "series_id"])[list(_META)]
        if not ids.isin(given.index).any():
            raise LabelError(
                f"none of the {len(meta)} series of the meta table is among the {len(table)} of the store; compare ids"
            )
        given = given.reindex(ids).reset_index(drop=True)
        known = pd.DataFrame({name: given[name].astype(float).fillna(known[name].astype(float)) for name in _META})
    table["aortic_hu"] = known["aortic_hu"].to_numpy(np.float64, na_value=np.nan)
    table["incomplete_organ"] = known["incomplete_organ"].astype("Int64").array
    return table.sort_values(["patient_id", "series_id", "key"], ignore_index=True)


def fold_counts(cohort: Cohort, folds: pd.Series, series: pd.DataFrame) -> pd.DataFrame:
    """Count patients, series and classes, one row a fold and one row `all`.

    Returns:
        `fold` as text, `patients`, `series`, `incomplete_organ` (series), the classes and, of RSNA,
        `any_injury` (patients).
    """
    labels = cohort.labels.set_index("patient_id")[list(cohort.targets.columns)].fillna(0)
    if cohort.targets.is_rsna:
        labels["any_injury"] = any_injury(labels)
    of_fold = folds.reindex(labels.index)
    table = labels.groupby(of_fold).sum()
    table.insert(0, "patients", of_fold.value_counts())
    table.insert(1, "series", series["fold"].value_counts())
    incomplete = series.groupby("fold")["incomplete_organ"].sum()
    table.insert(2, "incomplete_organ", incomplete)
    table.index = table.index.map(str)
    table.loc["all"] = table.sum()
    return table.fillna(0).astype(np.int64).rename_axis("fold").reset_index()


def cohort_files(cohort: Cohort, folds: pd.Series, series: pd.DataFrame, about: Mapping[str, Any]) -> dict[str, str]:
    """Lay out the files of a cohort folder, name → text.

    Args:
        cohort: Labelled series.
        folds: Fold by `patient_id` of all labelled patients.
        series: As `series_table` returns.
        about: Entries of `cohort.json` about where all this comes from.
    """
    patients = pd.Series(sorted(set(series["patient_id"])), name="patient_id")
    of_fold = patients.map(folds)
    numbers = range(int(folds.max()) + 1)
    counts = fold_counts(cohort, folds, series)
    summary = {
        "format": _FORMAT,
        **about,
        "folds": len(numbers),
        "unlabelled_series": cohort.unlabelled_series,
        "labelled_patients_not_in_store": cohort.unknown_patients,
        "pretraining_patients": {str(number): int((of_fold != number).sum()) for number in numbers},
        "counts": {str(row.pop("fold")): row for row in counts.to_dict("records")},
    }
    return {
        **{pretrain_name(number): patients[of_fold != number].to_frame().to_csv(index=False) for number in numbers},
        SERIES_NAME: series.to_csv(index=False),
        LABELS_NAME: cohort.labels.to_csv(index=False),
        SUMMARY_NAME: json.dumps(summary, indent=2) + "\n",
        FOLDS_NAME: folds.rename("fold").reset_index().to_csv(index=False),
    }
