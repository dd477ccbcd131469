from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from voco2d.data.cohort_parts import fold_parts, join_splits, read_splits, split_part
from voco2d.errors import LabelError, UsageError

SPLITS = {"000": "train", "001": "train", "002": "validation", "003": "test", "004": "test"}


def index_of(patients: list[str]) -> pd.DataFrame:
    """Two series of each patient, the rows of a store's index."""
    rows = [(f"{patient}{series}", patient, str(series)) for patient in patients for series in range(2)]
    return pd.DataFrame(rows, columns=["key", "patient_id", "series_id"])


def test_a_split_keeps_its_patients_and_tests_without_labels(labels_of: Callable[..., pd.DataFrame]) -> None:
    index = index_of(["004", "000", "001", "002", "009"])
    cohort, kept = join_splits(index, labels_of(3), SPLITS)
    assert kept == {patient: split for patient, split in SPLITS.items() if patient != "003"}
    assert cohort.series["patient_id"].tolist() == ["004", "004", "000", "000", "001", "001", "002", "002"]
    assert cohort.series["position"].tolist() == list(range(8))
    assert cohort.labels["patient_id"].tolist() == ["000", "001", "002"]
    part = split_part(kept, cohort.labels, 1.0, seed=0)
    assert (part.train, part.held_out, part.test) == ({"000", "001"}, {"002"}, {"004"})
    assert part.rows(cohort, part.test).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({**SPLITS, "000": "dev"}, "'dev' is no split; use train, validation, test"),
        ({**SPLITS, "004": "train"}, "1 patients of train or validation have no label"),
        ({"000": "train", "777": "test"}, "the store holds no patient of test"),
        ({"000": "test"}, "the store holds no patient of train"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(
    labels_of: Callable[..., pd.DataFrame], splits: dict[str, str], words: str
) -> None:
    with pytest.raises(LabelError, match=words):
        join_splits(index_of(["000", "001", "002", "003", "004"]), labels_of(3), splits)


def test_a_fraction_leaves_the_held_out_patients_alone(labels_of: Callable[..., pd.DataFrame]) -> None:
    labels = labels_of(50)
    folds = pd.Series([number % 5 for number in range(50)], index=labels["patient_id"])
    whole = fold_parts(folds, labels, range(5), 1.0, seed=0)
    tenth = fold_parts(folds, labels, range(5), 0.1, seed=0)
    quarter = fold_parts(folds, labels, range(5), 0.25, seed=0)
    for all_of, small, large in zip(whole, tenth, quarter, strict=True):
        assert (len(small.train), len(large.train), len(all_of.train)) == (4, 10, 40)
        assert small.train < large.train < all_of.train
        assert small.held_out == all_of.held_out
        assert not all_of.train & all_of.held_out


def test_a_table_of_splits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("patient_id,split\n007,Train\n8, test\n")
    assert read_splits(path) == {"007": "train", "8": "test"}
    with pytest.raises(UsageError, match="no such file"):
        read_splits(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id\n1\n", "no column split"),
        ("patient_id,split\n1,train\n1,test\n", "row 2 has a patient that was there before"),
        ("patient_id,split\n1,train\n2,\n", "row 2 has a split other than"),
        ("patient_id,split\n,train\n", "row 1 has no patient_id"),
    ],
)
def test_bad_tables_of_splits_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(LabelError, match=words):
        read_splits(tmp_path / "splits.csv")
