from pathlib import Path

import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.io.dicom_groups import DicomGroups
from voco2d.io.discover import discover
from voco2d.io.readers import read_source
from voco2d.io.rsna_layout import rsna_ids


def sources_of(*files):
    groups = DicomGroups(min_slices=2)
    for file in files:
        groups.add(file)
    return sorted(groups.sources()[0], key=lambda source: str(source.path))


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/data/train_images/10004/21057/7.dcm", ("10004", "21057")),
        ("/data/test_images/10004/21057/7.dcm", ("10004", "21057")),
        ("/data/rsna_rle/10004/21057/7.dcm", None),
        ("/data/train_images/21057/7.dcm", None),
        ("/data/train_images/10004/21057/7.nii", None),
        ("/data/train_images/x/../10004/21057/7.dcm", ("10004", "21057")),
    ],
)
def test_rsna_ids_are_the_folders(path, ids):
    assert rsna_ids(Path(path)) == ids


def test_rsna_ids_from_within_the_tree(tmp_path, monkeypatch):
    folder = tmp_path / "train_images" / "10004"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert rsna_ids(Path("21057/7.dcm")) == ("10004", "21057")


def test_a_folder_with_two_series_gives_both_named_by_their_first_file(tmp_path, patient):
    one = patient.write_series(tmp_path, patient.Spec(slices=2), ["a", "c"])
    two = patient.write_series(tmp_path, patient.Spec(slices=2, tags={"SeriesInstanceUID": "1.9"}), ["b", "d"])
    sources = sources_of(*one, *two)
    assert [source.path for source in sources] == [tmp_path / "a", tmp_path / "b"]
    assert [source.files for source in sources] == [tuple(one), tuple(two)]


def test_a_series_in_several_folders_is_joined(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec(slices=4), ["x/1", "x/2", "y/3", "y/4"])
    (source,) = sources_of(*files)
    assert source.path == tmp_path
    assert source.files == tuple(files)


def test_copies_of_a_series_stay_apart(tmp_path, patient):
    for copy in ("x", "y"):
        patient.write_series(tmp_path / copy, patient.Spec(slices=3))
    sources = sources_of(*sorted(tmp_path.rglob("*.dcm")))
    assert [source.path for source in sources] == [tmp_path / "x", tmp_path / "y"]


def test_without_uids_the_folder_is_the_series(tmp_path, patient):
    spec = patient.Spec(slices=2, tags={"StudyInstanceUID": "", "SeriesInstanceUID": ""})
    for folder in ("x", "y"):
        patient.write_series(tmp_path / folder, spec, [f"{folder}1", f"{folder}2"])
    sources = sources_of(*sorted(tmp_path.rglob("[xy][12]")))
    assert [source.path for source in sources] == [tmp_path / "x", tmp_path / "y"]


def test_ordinary_and_foreign_files_are_opened_once(tmp_path, patient, monkeypatch):
    (file,) = patient.write_series(tmp_path, patient.Spec(slices=1))
    foreign = tmp_path / "notes.txt"
    foreign.write_text("no slice")
    opened = []
    whole = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *words, **more: opened.append(self) or whole(self, *words, **more))
    groups = DicomGroups()
    groups.add(file)
    with pytest.raises(ReadError, match=r"not a CT format: \.txt"):
        groups.add(foreign)
    assert opened == [file, foreign]


def test_patients_under_one_series_uid_are_never_mixed(tmp_path, patient):
    for z in range(12):
        spec = patient.Spec(tags={"PatientID": "AB"[z % 2]})
        position = np.add(spec.origin_mm, (0, 0, 5.0 * z))
        patient.write_slice(tmp_path / f"{z}.dcm", np.full((8, 10), 100 * (z % 2)), spec, position, z + 1)
    sources, rejections = discover([tmp_path])
    assert rejections == []
    volumes = [read_source(source)[0] for source in sources]
    assert {(volume.patient_id, int(volume.hu.min()), int(volume.hu.max())) for volume in volumes} == {
        ("A", 0, 0),
        ("B", 100, 100),
    }
