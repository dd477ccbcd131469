import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.data.cohort import read_labels
from voco2d.data.cohort_folds import adopt_folds, any_injury, read_folds, stratify
from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.io.rsna_series import read_series_table
from voco2d.targets import CLASS_COLUMNS

LabelsOf = Callable[..., pd.DataFrame]


def series_of(labels: pd.DataFrame, seed: int = 0) -> pd.Series:
    counts = np.random.default_rng(seed).integers(1, 4, len(labels))
    return pd.Series(counts, index=labels["patient_id"])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 5, 7])
def test_classes_any_injury_and_series_are_spread_evenly(labels_of: LabelsOf, seed: int, folds: int) -> None:
    labels = labels_of(200, seed)
    series = series_of(labels, seed)
    numbers = stratify(labels, series, folds, seed)
    table = labels.set_index("patient_id")[list(CLASS_COLUMNS)]
    table["any_injury"] = any_injury(table)
    for count in (1, 2, 3):
        table[f"{count} series"] = (series == count).astype(int)
    counts = table.groupby(numbers).sum()
    assert (counts.max() - counts.min()).max() <= 2
    sizes = numbers.value_counts()
    assert sizes.max() - sizes.min() <= 1


def test_rows_in_another_order_give_the_same_folds_and_another_seed_others(labels_of: LabelsOf) -> None:
    labels = labels_of(60)
    series = series_of(labels)
    folds = stratify(labels, series, 4, seed=1)
    shuffled = stratify(labels.sample(frac=1, random_state=0), series.sample(frac=1, random_state=1), 4, seed=1)
    pd.testing.assert_series_equal(shuffled, folds)
    assert not folds.equals(stratify(labels, series, 4, seed=2))
    assert folds.index.tolist() == labels["patient_id"].tolist()


@pytest.mark.parametrize("patients", range(2, 13))
def test_small_cohorts_fill_every_fold(labels_of: LabelsOf, patients: int) -> None:
    labels = labels_of(patients)
    for count in range(2, min(patients, 5) + 1):
        assert set(stratify(labels, series_of(labels), count, 0)) == set(range(count))


def test_rare_classes_are_told_with_their_counts_and_spread(
    labels_of: LabelsOf, caplog: pytest.LogCaptureFixture
) -> None:
    labels = labels_of(40)
    labels[["spleen_healthy", "spleen_low", "spleen_high"]] = [1, 0, 0]
    labels[["kidney_healthy", "kidney_low", "kidney_high"]] = [1, 0, 0]
    labels.loc[:2, ["kidney_healthy", "kidney_high"]] = [0, 1]
    folds = stratify(labels, series_of(labels), 5, seed=0)
    assert (
        "no patient has spleen_low, spleen_high, kidney_low" in caplog.text or "kidney_low, spleen_low" in caplog.text
    )
    assert "kidney_high (3)" in caplog.text
    assert folds.iloc[:3].nunique() == 3


@pytest.mark.parametrize(("folds", "words"), [(1, "at least 2"), (6, "only 5 labelled patients")])
def test_impossible_numbers_of_folds_are_refused(labels_of: LabelsOf, folds: int, words: str) -> None:
    labels = labels_of(5)
    with pytest.raises(ConfigError, match=words):
        stratify(labels, series_of(labels), folds, 0)


def test_folds_are_read_in_both_forms(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("patient_id,fold\n007,1\n003,0\n")
    assert read_folds(path).to_dict() == {"003": 0, "007": 1}
    path.write_text("patient_id;fold\n007;1\n003;0\n")
    assert read_folds(path).to_dict() == {"003": 0, "007": 1}
    path.write_text("patient_id,fold1,fold2\n007,0,1\n003,1,0\n")
    assert read_folds(path).to_dict() == {"003": 0, "007": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id,fold1,fold2\n777,0,0\n778,1,0\n", "row 1 has none or several of fold1…fold2"),
        ("patient_id,fold1,fold2\n777,1,1\n", "none or several"),
        ("patient_id,fold\n777,0\n777,1\n", "row 2 has a patient that was there before"),
        ("patient_id,fold\n777,first\n", "no whole number"),
        ("patient_id,fold\n777,1\n778,2\n", "without a gap"),
        ("patient_id,fold\n777,0\n778,0\n", "two at least"),
        ("patient_id,group\n777,0\n", "neither a column fold nor"),
        ("patient,fold\n777,0\n", "no column patient_id"),
        ("patient_id,fold\n,0\n777,1\n", "row 1 has no patient_id"),
        ("patient_id,fold\n", "has a header but no rows"),
    ],
)
def test_faulty_folds_are_refused_without_ids(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=words) as caught:
        read_folds(path)
    assert "777" not in str(caught.value)


def test_missing_folds_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"folds\.csv"):
        read_folds(tmp_path / "folds.csv")


def test_adopted_folds_must_know_every_labelled_patient(labels_of: LabelsOf, caplog: pytest.LogCaptureFixture) -> None:
    labels = labels_of(4)
    folds = pd.Series([0, 1, 0, 1, 1], index=pd.Index(["000", "001", "002", "003", "999"], name="patient_id"))
    with caplog.at_level(logging.WARNING):
        assert adopt_folds(folds, labels, "folds.csv").tolist() == [0, 1, 0, 1]
    assert "1 of its 5 patients are not in the store" in caplog.text
    with pytest.raises(LabelError, match="1 of the 4 labelled patients"):
        adopt_folds(folds.drop("002"), labels, "folds.csv")
    with pytest.raises(LabelError, match="no labelled patient of fold 1"):
        adopt_folds(folds, labels.iloc[[0, 2]], "folds.csv")


@pytest.mark.realdata
@pytest.mark.parametrize("folds", [2, 5, 10])
def test_real_cohort_is_split_to_within_one_patient(real_data: Path, folds: int) -> None:
    labels = read_labels(real_data / "rsna" / "train.csv")
    series = read_series_table(real_data / "rsna" / "train_series_meta.csv")["patient_id"].value_counts()
    numbers = stratify(labels, series, folds, seed=0)
    table = labels.set_index("patient_id")[list(CLASS_COLUMNS)]
    table["any_injury"] = any_injury(table)
    table["two_series"] = (series == 2).astype(int).reindex(table.index)
    counts = table.groupby(numbers).sum()
    assert (counts.max() - counts.min()).max() <= 1


@pytest.mark.realdata
def test_public_folds_are_read(real_data: Path) -> None:
    folds = read_folds(real_data / "rsna" / "folds.csv")
    assert len(folds) == 3147
    assert folds["10004"] == 2
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
