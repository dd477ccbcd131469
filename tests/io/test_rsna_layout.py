from pathlib import Path

import pytest

from voco2d.io.rsna_layout import find_rsna_root, rsna_ids

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
