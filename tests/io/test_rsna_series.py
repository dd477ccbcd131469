from pathlib import Path

import pandas as pd
import pytest

from voco2d.errors import LabelError
from voco2d.io.rsna_layout import find_rsna_root
from voco2d.io.rsna_series import read_series_meta, read_series_table

META = "patient_id,series_id,aortic_hu,incomplete_organ\n"


def test_series_meta_keeps_ids_as_text_and_values_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "train_series_meta.csv"
    path.write_text(META + "007,0042,146.5,1\n008,43,-1024.0,0\n009,44,,\n009,45,nan,0\n")
    table = read_series_table(path)
    assert table["patient_id"].tolist() == ["007", "008", "009", "009"]
    assert table["series_id"].tolist() == ["0042", "43", "44", "45"]
    assert table["aortic_hu"].tolist()[:2] == [146.5, -1024.0]
    assert table["aortic_hu"].isna().tolist() == [False, False, True, True]
    assert table["incomplete_organ"].isna().tolist() == [False, False, True, False]
    assert str(table["incomplete_organ"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id,series_id\n1,2\n", "lacks the column.*aortic_hu, incomplete_organ"),
        (META + "777,42,1,0\n777,42,2,0\n", "row 2 has a series that was there before"),
        (META + "777,,1,0\n", "row 1 has an empty series_id"),
        (META + "777,42,bright,0\n", "row 1 has an aortic_hu that is no number"),
        (META + "777,42,inf,0\n", "no number"),
        (META + "777,42,1,2\n", "neither 0 nor 1"),
        ("", "not a CSV table"),
    ],
)
def test_faulty_tables_are_refused_by_name_without_ids(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "train_series_meta.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=words) as caught:
        read_series_table(path)
    assert "train_series_meta.csv" in str(caught.value)
    assert "777" not in str(caught.value)


def test_root_without_the_table_gives_no_rows(tmp_path: Path) -> None:
    (tmp_path / "train_images" / "007" / "21057").mkdir(parents=True)
    found = find_rsna_root(tmp_path)
    assert found is not None
    table = read_series_meta(found)
    assert table.empty
    assert list(table.columns) == ["patient_id", "series_id", "aortic_hu", "incomplete_organ"]


@pytest.mark.realdata
def test_real_table(real_data: Path) -> None:
    table = read_series_table(real_data / "rsna" / "train_series_meta.csv")
    assert len(table) == 4711
    assert table["patient_id"].nunique() == 3147
    assert table["incomplete_organ"].sum() == 313
    assert (table["aortic_hu"] == -1024).sum() == 1
    pd.testing.assert_series_equal(table["series_id"], table["series_id"].astype(int).astype(str).astype(object))


def test_semicolons_separate_too(tmp_path: Path) -> None:
    path = tmp_path / "train_series_meta.csv"
    path.write_text(META.replace(",", ";") + "007;0042;146.5;1\n")
    assert read_series_table(path)["aortic_hu"].tolist() == [146.5]
