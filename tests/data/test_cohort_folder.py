import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.data.cohort import join_labels, read_labels
from voco2d.data.cohort_folder import CohortFolder, cohort_files, fold_counts, series_table
from voco2d.data.cohort_folds import stratify
from voco2d.errors import LabelError, UsageError
from voco2d.io.rsna_series import read_series_table
from voco2d.targets import CLASS_COLUMNS


def labels_of(patients: int) -> pd.DataFrame:
    healthy = [int(column.endswith("healthy")) for column in CLASS_COLUMNS]
    table = pd.DataFrame([healthy] * patients, columns=list(CLASS_COLUMNS))
    table.insert(0, "patient_id", [f"{number:03d}" for number in range(patients)])
    return table


def index_of(patient_ids: list[str]) -> pd.DataFrame:
    names = [f"s{number}" for number in range(len(patient_ids))]
    return pd.DataFrame({"key": names, "patient_id": patient_ids, "series_id": names})


@pytest.fixture
def folder(tmp_path: Path) -> CohortFolder:
    index = index_of(["000", "000", "001", "002", "003", "unlabelled"])
    cohort = join_labels(index, labels_of(4))
    folds = stratify(cohort.labels, cohort.series["patient_id"].value_counts(), 2, 0)
    for name, text in cohort_files(cohort, folds, series_table(index, folds, None), {"seed": 0}).items():
        (tmp_path / name).write_text(text)
    return CohortFolder.read(tmp_path)


def test_pretraining_lists_hold_all_but_the_fold(folder: CohortFolder) -> None:
    everyone = {"000", "001", "002", "003", "unlabelled"}
    for fold in range(folder.count):
        held_out = set(folder.folds.index[folder.folds == fold])
        assert set(folder.patients_for_pretraining(fold)) == everyone - held_out


def test_series_keep_their_fold_and_unlabelled_ones_have_none(folder: CohortFolder) -> None:
    table = pd.read_csv(folder.path / "series.csv", dtype=str)
    assert list(table.columns) == ["key", "patient_id", "series_id", "fold", "aortic_hu", "incomplete_organ"]
    assert table["fold"].isna().tolist() == [False] * 5 + [True]
    assert (table["fold"].iloc[:5].astype(int) == table["patient_id"].iloc[:5].map(folder.folds)).all()


def test_summary_counts_add_up(folder: CohortFolder) -> None:
    summary = json.loads((folder.path / "cohort.json").read_text())
    assert summary["counts"]["all"]["patients"] == 4
    assert summary["counts"]["all"]["series"] == 5
    assert summary["unlabelled_series"] == 1
    for key, total in summary["counts"]["all"].items():
        assert summary["counts"]["0"][key] + summary["counts"]["1"][key] == total


def test_a_list_that_names_validation_patients_is_refused(folder: CohortFolder) -> None:
    path = folder.path / "pretrain_fold0.csv"
    path.write_text("patient_id\n" + "\n".join(folder.folds.index) + "\n")
    with pytest.raises(LabelError, match=r"pretrain_fold0\.csv: pretraining sees 2 patients"):
        folder.patients_for_pretraining(0)


def test_other_folders_and_folds_are_wrong_use(folder: CohortFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has folds 0…1"):
        folder.patients_for_pretraining(2)
    with pytest.raises(UsageError, match="voco2d cohort"):
        CohortFolder.read(tmp_path / "nowhere")


def test_meta_fills_what_is_known_and_the_store_the_rest() -> None:
    index = index_of(["000", "001", "002"]).assign(aortic_hu=[1.0, 2.0, np.nan], incomplete_organ=[0, 1, 0])
    folds = pd.Series([0, 1], index=["000", "001"])
    meta = read_series_table_of("000,s0,146.5,1\n001,s1,,\n009,s9,3,0\n")
    table = series_table(index, folds, meta)
    assert table["aortic_hu"].tolist()[:2] == [146.5, 2.0]
    assert np.isnan(table["aortic_hu"].iloc[2])
    assert table["incomplete_organ"].tolist() == [1, 1, 0]
    with pytest.raises(LabelError, match="none of the 1 series"):
        series_table(index, folds, read_series_table_of("000,other,1,0\n"))


def read_series_table_of(rows: str) -> pd.DataFrame:
    table = pd.read_csv(
        io.StringIO("patient_id,series_id,aortic_hu,incomplete_organ\n" + rows),
        dtype={"patient_id": str, "series_id": str},
    )
    return table.astype({"incomplete_organ": "Int64"})


@pytest.mark.realdata
def test_real_tables_give_folds_of_like_patients_and_series(real_data: Path) -> None:
    meta = read_series_table(real_data / "rsna" / "train_series_meta.csv")
    index = meta[["patient_id", "series_id"]].assign(key=meta["series_id"])
    cohort = join_labels(index, read_labels(real_data / "rsna" / "train.csv"))
    folds = stratify(cohort.labels, cohort.series["patient_id"].value_counts(), 5, 0)
    series = series_table(index, folds, meta)
    assert len(series) == 4711
    assert series["incomplete_organ"].sum() == 313
    counts = fold_counts(cohort, folds, series).set_index("fold")
    assert counts.loc["all", ["patients", "series"]].tolist() == [3147, 4711]
    of_folds = counts.drop(index="all", columns="incomplete_organ")
    spread = of_folds.max() - of_folds.min()
    assert spread["series"] <= 2
    assert spread.drop("series").max() <= 1
