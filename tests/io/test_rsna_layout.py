from pathlib import Path

import pandas as pd
import pytest

from voco2d.errors import LabelError
from voco2d.io.rsna_layout import find_rsna_root, read_series_meta, read_series_table, rsna_ids

META = "patient_id,series_id,aortic_hu,incomplete_organ\n"


def competition(root: Path, image_folders: tuple[str, ...] = ("train_images",)) -> Path:
    for name in image_folders:
        (root / name / "007" / "21057").mkdir(parents=True)
    (root / "train.csv").write_text("patient_id\n007\n")
    (root / "train_series_meta.csv").write_text(META + "007,21057,146.0,0\n")
    (root / "segmentations").mkdir()
    return root


def test_root_is_recognised_with_what_it_holds(tmp_path: Path) -> None:
    root = competition(tmp_path, ("train_images", "test_images"))
    found = find_rsna_root(root)
    assert found is not None
    assert found.path == root
    assert found.image_folders == (root / "train_images", root / "test_images")
    assert found.labels == root / "train.csv"
    assert found.series_meta == root / "train_series_meta.csv"
    assert found.segmentations == root / "segmentations"
    assert found.image_level_labels is None


def test_image_folder_itself_leads_to_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = competition(tmp_path, ("train_images", "test_images"))
    found = find_rsna_root(root / "train_images")
    assert found is not None
    assert found.image_folders == (root / "train_images",)
    assert found.labels == root / "train.csv"
    monkeypatch.chdir(root / "train_images")
    from_within = find_rsna_root(Path())
    assert from_within is not None
    assert from_within.labels == root / "train.csv"


def test_other_folders_are_no_root(tmp_path: Path) -> None:
    (tmp_path / "train_images" / "007").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("patient_id\n")
    for path in (tmp_path, tmp_path / "train_images", tmp_path / "train.csv", tmp_path / "nowhere"):
        assert find_rsna_root(path) is None


def test_hidden_folders_and_files_make_no_series(tmp_path: Path) -> None:
    (tmp_path / "train_images" / "007" / ".21057.partial").mkdir(parents=True)
    (tmp_path / "train_images" / "readme.txt").write_text("text")
    assert find_rsna_root(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/x/train_images/007/21057/3.dcm", ("007", "21057")),
        ("/x/test_images/007/21057/3.DCM", ("007", "21057")),
        ("/x/train_images/007/21057/3.txt", None),
        ("/x/other/007/21057/3.dcm", None),
    ],
)
def test_ids_are_the_folders(path: str, ids: tuple[str, str] | None) -> None:
    assert rsna_ids(Path(path)) == ids


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
    root = competition(tmp_path)
    (root / "train_series_meta.csv").unlink()
    found = find_rsna_root(root)
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
