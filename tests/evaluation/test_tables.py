from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import (
    check_labels,
    check_predictions,
    read_label_table,
    read_predictions,
    read_text_table,
)
from voco2d.targets import CLASS_COLUMNS


def test_a_written_table_is_read_back(tables, tmp_path: Path):
    predictions, labels = tables(5)
    predictions.to_csv(tmp_path / "predictions.csv.gz", index=False)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    pd.testing.assert_frame_equal(
        read_predictions(tmp_path / "predictions.csv.gz"), predictions.astype({"patient_id": object})
    )
    assert read_label_table(tmp_path / "labels.csv")["patient_id"].tolist() == labels["patient_id"].tolist()


def test_ids_stay_text(tables, tmp_path: Path):
    predictions, _ = tables(2)
    predictions.assign(patient_id=["007", "1e3"]).to_csv(tmp_path / "p.csv", index=False)
    assert read_predictions(tmp_path / "p.csv")["patient_id"].tolist() == ["007", "1e3"]


def test_numeric_ids_and_an_index_of_ids_are_taken(tables):
    predictions, labels = tables(3)
    as_index = labels.assign(patient_id=labels["patient_id"].astype(int)).set_index("patient_id")
    assert check_labels(as_index)["patient_id"].tolist() == ["100", "101", "102"]
    as_floats = predictions.assign(patient_id=predictions["patient_id"].astype(float))
    assert check_predictions(as_floats)["patient_id"].tolist() == ["100", "101", "102"]


def test_missing_columns_are_all_named(tables):
    _, labels = tables(3)
    with pytest.raises(LabelError, match=r"column.*bowel_injury, liver_low"):
        check_labels(labels.drop(columns=["bowel_injury", "liver_low"]))
    with pytest.raises(LabelError, match="patient_id"):
        check_predictions(labels.drop(columns="patient_id"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "row 2 has an empty or non-finite"),
        (np.inf, "row 2 has an empty or non-finite"),
        ("many", "row 2 has an empty or non-finite"),
        (-0.1, "row 2 has a negative"),
    ],
)
def test_bad_probabilities_are_refused_with_their_row(tables, value, message):
    predictions, _ = tables(4)
    predictions["kidney_low"] = predictions["kidney_low"].astype(object)
    predictions.loc[1, "kidney_low"] = value
    with pytest.raises(LabelError, match=message):
        check_predictions(predictions)


def test_only_zeros_for_a_target_are_refused(tables):
    predictions, _ = tables(4)
    predictions.loc[2:, ["bowel_healthy", "bowel_injury"]] = 0
    with pytest.raises(LabelError, match=r"row 3 \(and 1 more\) has only zeros for bowel"):
        check_predictions(predictions)


def test_a_row_that_was_not_assessed_may_be_empty(tables):
    predictions, _ = tables(3)
    predictions["status"] = ["assessed", "not_assessed", "assessed"]
    predictions.loc[1, list(CLASS_COLUMNS)] = np.nan
    assert len(check_predictions(predictions)) == 3
    predictions.loc[1, "status"] = "perhaps"
    with pytest.raises(LabelError, match="row 2 has a status other than"):
        check_predictions(predictions)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("liver_low", 0.5, "row 1 has a class that is neither 0 nor 1"),
        ("liver_low", np.nan, "row 1 has a class that is neither 0 nor 1"),
        ("liver_healthy", 1, "row 1 has none or several classes of liver"),
        ("patient_id", "101", "row 2 has a patient that was there before"),
        ("patient_id", None, "row 1 has an empty patient_id"),
    ],
)
def test_bad_labels_are_refused_with_their_row(tables, column, value, message):
    _, labels = tables(3)
    labels.loc[0, ["liver_healthy", "liver_low", "liver_high"]] = [0.0, 1.0, 0.0]
    labels.loc[0, column] = value
    if column == "liver_healthy":
        labels.loc[0, "liver_low"] = 1.0
    with pytest.raises(LabelError, match=message):
        check_labels(labels)


def test_files_that_are_no_table_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no such file"):
        read_predictions(tmp_path / "absent.csv")
    for name, content in {"empty.csv": b"", "bytes.csv": b"\xff\xfe\x00\x81\n", "broken.csv.gz": b"not gzip"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LabelError, match=name):
            read_predictions(tmp_path / name)
    (tmp_path / "head.csv").write_text(",".join(["patient_id", *CLASS_COLUMNS]) + "\n")
    with pytest.raises(LabelError, match="has a header but no rows"):
        read_label_table(tmp_path / "head.csv")
    with pytest.raises(LabelError, match="has a header but no rows; give one with a patient_id column"):
        read_text_table(tmp_path / "head.csv", "give one with a patient_id column")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_semicolons_and_tabs_separate_too(tables, tmp_path: Path, separator: str, ending: str):
    """Spreadsheets write these in many countries; all columns were said to be missing."""
    predictions, labels = tables(5)
    for name, table in (("predictions", predictions), ("labels", labels)):
        table.to_csv(tmp_path / f"{name}{ending}", index=False, sep=separator)
    pd.testing.assert_frame_equal(
        read_predictions(tmp_path / f"predictions{ending}"), predictions.astype({"patient_id": object})
    )
    assert read_label_table(tmp_path / f"labels{ending}")["patient_id"].tolist() == labels["patient_id"].tolist()
    assert list(read_text_table(tmp_path / f"labels{ending}", "")) == list(labels)
