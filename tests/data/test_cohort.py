import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.data.cohort import class_indices, join_labels, make_folds, patient_digests, read_labels, saw_patients
from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.targets import CLASS_COLUMNS, TARGETS

LabelsOf = Callable[..., pd.DataFrame]


def index_of(patient_ids: list[str]) -> pd.DataFrame:
    names = [f"s{number}" for number in range(len(patient_ids))]
    return pd.DataFrame({"key": names, "patient_id": patient_ids, "series_id": names})


def written(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    table.to_csv(path, index=False)
    return path


def test_ids_stay_text_and_further_columns_are_left_out(labels_of: LabelsOf, tmp_path: Path) -> None:
    table = labels_of(6).assign(any_injury=0)[["any_injury", *reversed(CLASS_COLUMNS), "patient_id"]]
    labels = read_labels(written(table, tmp_path))
    assert list(labels.columns) == ["patient_id", *CLASS_COLUMNS]
    assert labels["patient_id"].tolist() == ["000", "001", "002", "003", "004", "005"]
    assert labels["bowel_injury"].dtype == np.int64


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        read_labels(tmp_path / "nowhere.csv")


def test_missing_columns_are_all_named(labels_of: LabelsOf, tmp_path: Path) -> None:
    path = written(labels_of(3).drop(columns=["liver_low", "spleen_high"]), tmp_path)
    with pytest.raises(LabelError, match=r"train\.csv.*liver_low, spleen_high"):
        read_labels(path)


def test_rows_that_are_not_one_hot_are_counted_and_the_first_is_named(labels_of: LabelsOf, tmp_path: Path) -> None:
    table = labels_of(6)
    table.loc[[2, 4], list(TARGETS["kidney"].columns)] = 0
    with pytest.raises(LabelError, match=r"row 3 \(and 1 more\).*kidney") as caught:
        read_labels(written(table, tmp_path))
    assert "002" not in str(caught.value)


def test_a_patient_may_not_come_twice(labels_of: LabelsOf, tmp_path: Path) -> None:
    table = pd.concat([labels_of(3), labels_of(1)])
    with pytest.raises(LabelError, match="row 4"):
        read_labels(written(table, tmp_path))


def test_what_only_one_side_has_is_counted_and_logged(labels_of: LabelsOf, caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(["003", "unlabelled", "001", "003"])
    with caplog.at_level(logging.INFO):
        cohort = join_labels(index, labels_of(5))
    assert cohort.series["position"].tolist() == [0, 2, 3]
    assert cohort.series["series_id"].tolist() == ["s0", "s2", "s3"]
    assert cohort.labels["patient_id"].tolist() == ["001", "003"]
    assert (cohort.unlabelled_series, cohort.unknown_patients) == (1, 3)
    assert "1 series without labels, 3 labelled patients" in caplog.text
    assert "003" not in caplog.text


def test_labels_of_other_patients_are_refused(labels_of: LabelsOf) -> None:
    with pytest.raises(LabelError, match="none of the 5 labelled patients is among the 2"):
        join_labels(index_of(["x", "y"]), labels_of(5))


def test_folds_depend_on_patients_and_seed_not_on_the_order_of_rows(labels_of: LabelsOf) -> None:
    labels = labels_of(40)
    folds = make_folds(labels, 4, seed=1)
    pd.testing.assert_series_equal(make_folds(labels.sample(frac=1, random_state=0), 4, seed=1), folds)
    assert not folds.equals(make_folds(labels, 4, seed=2))
    assert folds.index.tolist() == labels["patient_id"].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_spread_over_the_folds(labels_of: LabelsOf, seed: int) -> None:
    labels = labels_of(200, seed, injured=0.2).set_index("patient_id")
    folds = make_folds(labels.reset_index(), 5, seed)
    assert folds.value_counts().between(36, 44).all()
    for column in CLASS_COLUMNS:
        counts = labels[column].groupby(folds).sum()
        assert counts.max() - counts.min() <= 5


@pytest.mark.parametrize("patients", range(5, 13))
def test_small_cohorts_fill_every_fold(labels_of: LabelsOf, patients: int) -> None:
    for seed in range(10):
        for count in range(2, 6):
            assert set(make_folds(labels_of(patients, seed), count, seed)) == set(range(count))


def test_a_class_that_never_occurs_is_a_warning(labels_of: LabelsOf, caplog: pytest.LogCaptureFixture) -> None:
    labels = labels_of(12, injured=0.4)
    labels[["spleen_healthy", "spleen_low", "spleen_high"]] = [1, 0, 0]
    assert len(make_folds(labels, 3, seed=0)) == 12
    assert "no patient has spleen_low, spleen_high" in caplog.text


@pytest.mark.parametrize(("folds", "words"), [(1, "at least 2"), (6, "only 5 labelled patients")])
def test_impossible_numbers_of_folds_are_refused(labels_of: LabelsOf, folds: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_folds(labels_of(5), folds, seed=0)


def test_one_labelled_patient_is_told_what_helps(labels_of: LabelsOf) -> None:
    with pytest.raises(ConfigError, match=r"1 labelled patient.* at least 2.*label more"):  # not "set folds to 1"
        make_folds(labels_of(5).head(1), 5, seed=0)


def test_class_indices_undo_the_one_hot(labels_of: LabelsOf) -> None:
    labels = labels_of(20)
    for name, indices in class_indices(labels).items():
        columns = TARGETS[name].columns
        assert all(labels.loc[row, columns[grade]] == 1 for row, grade in enumerate(indices))


def test_digests_tell_whether_patients_were_seen() -> None:
    seen = patient_digests(["b", "a", "a"])
    assert len(seen) == 2
    assert seen == sorted(seen)
    assert all(len(digest) == 16 for digest in seen)
    assert saw_patients({"patients_seen": seen}, ["c", "a"]) is True
    assert saw_patients({"patients_seen": seen}, ["c"]) is False
    assert saw_patients({}, ["a"]) is None


@pytest.mark.realdata
def test_real_labels_give_balanced_folds(real_data: Path) -> None:
    labels = read_labels(real_data / "rsna" / "train.csv")
    assert len(labels) == 3147
    folds = make_folds(labels, 5, seed=0)
    injured = labels.set_index("patient_id")[list(CLASS_COLUMNS)].groupby(folds).sum()
    assert (injured.max() - injured.min()).max() <= 12
