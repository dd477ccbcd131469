import json
import os

import numpy as np
import pytest

from voco2d.errors import ReadError, UsageError
from voco2d.io.discover import discover
from voco2d.io.readers import read_source, read_volume


def reasons(rejections, root):
    return {os.path.relpath(rejection.path, root): rejection.reason for rejection in rejections}


def test_a_mixed_tree_is_sorted_and_nothing_is_silent(tmp_path, patient):
    patient.write_series(tmp_path / "ct", patient.Spec(slices=2), ["one", "two.ima"])
    (tmp_path / "scan.nii.gz").touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.json").write_text("{}")
    (tmp_path / ".hidden").touch()
    (tmp_path / "table.csv").write_text("a,b")
    (tmp_path / "README").write_text("words, more words and so on")
    (tmp_path / "text.dcm").write_text("words")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    sources, rejections = discover([tmp_path])
    assert [(source.kind, source.path.name, len(source.files)) for source in sources] == [
        ("numpy", "array.npy", 1),
        ("dicom", "ct", 2),
        ("nifti", "scan.nii.gz", 1),
    ]
    assert reasons(rejections, tmp_path) == {
        "README": "not a CT format",
        "empty.dcm": "empty file",
        "gone": "can't be opened (No such file or directory)",
        "other.json": "not a CT format: .json",
        "table.csv": "not a CT format: .csv",
        "text.dcm": "not a DICOM file although named .dcm",
    }


@pytest.mark.parametrize(("name", "reason"), [("table.csv", "no table of paths"), ("list.json", "no dataset list")])
def test_a_table_of_other_things_costs_itself_unless_it_is_all_there_is(tmp_path, name, reason):
    np.save(tmp_path / "array.npy", np.zeros(3))
    other = tmp_path / name
    other.write_text("patient_id,healthy\n1,0\n" if name == "table.csv" else "{}")
    sources, rejections = discover([other, tmp_path / "array.npy"])
    assert [source.path.name for source in sources] == ["array.npy"]
    assert reasons(rejections, tmp_path)[name].startswith(reason)
    with pytest.raises(UsageError, match=reason):
        discover([other])


def test_damaged_headers_and_dicom_without_an_image_are_rejected(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec(slices=1))
    (tmp_path / "cut.dcm").write_bytes(files[0].read_bytes()[:450])
    patient.write_series(tmp_path, patient.Spec(slices=1, tags={"Rows": None, "Modality": "SR"}), ["report"])
    sources, rejections = discover([tmp_path])
    assert len(sources) == 1
    assert reasons(rejections, tmp_path) == {
        "cut.dcm": "DICOM without an image, or cut short (modality not stated)",
        "report": "modality SR, not CT",
    }


def test_rsna_layout_is_named_by_its_folders(tmp_path, patient):
    for folder in ("10004/21057", "10004/51033", "10005/1"):
        patient.write_series(tmp_path / "train_images" / folder, patient.Spec())
    for start in (tmp_path, tmp_path / "train_images", tmp_path / "train_images" / "10004"):
        sources, _ = discover([start])
        ids = [(source.patient_id, source.series_id) for source in sources]
        assert ids[:2] == [("10004", "21057"), ("10004", "51033")]
    volume = read_volume(tmp_path / "train_images" / "10005" / "1")
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("10005", "1.2.3", "1")


def test_a_file_is_taken_once_however_often_it_is_named(tmp_path, patient):
    files = patient.write_series(tmp_path / "a", patient.Spec(slices=3))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    sources, rejections = discover([files[0], tmp_path, tmp_path / "a", files[0]])
    assert [len(source.files) for source in sources] == [3]
    assert rejections == []


def test_single_slices_named_one_by_one_make_a_series(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    sources, _ = discover([*files, files[0]])
    assert [source.files for source in sources] == [tuple(sorted(files))]


def test_a_dataset_list_names_its_images(tmp_path):
    (tmp_path / "a.nii").touch()
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "a.nii"}, {"image": "b.nii"}]}))
    sources, rejections = discover([tmp_path / "dataset.json"])
    assert [source.path.name for source in sources] == ["a.nii"]
    assert reasons(rejections, tmp_path) == {"b.nii": "named in dataset.json but missing"}


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UsageError, match="nowhere: missing; name an existing file or folder"):
        discover([tmp_path / "nowhere"])
    assert discover([tmp_path]) == ([], [])


@pytest.mark.filterwarnings("error")
def test_odd_values_neither_warn_nor_leak(tmp_path, patient):
    spec = patient.Spec()
    patient.write_series(tmp_path, spec)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.3.4\0", b"Doe^Jane"))
    assert read_volume(tmp_path).hu.shape[0] == 8


@pytest.mark.realdata
def test_real_tree_is_told_apart(real_data):
    sources, rejections = discover([real_data / "abdomen", real_data / "dicom"])
    accepted, refused = [], {}
    for source in sources:
        try:
            volume, _ = read_source(source)
        except ReadError as error:
            refused[os.path.relpath(source.path, real_data)] = error.reason
        else:
            accepted.append(os.path.relpath(volume.source, real_data))
    assert sum(name.endswith(".nii.gz") for name in accepted) == 14
    assert [name for name in accepted if not name.endswith(".nii.gz")] == [
        "dicom/ge_tilt_variable_spacing",
        "dicom/jpeg2000_series",
        "dicom/missing_slice",
        "dicom/overlapping_slices",
        "dicom/two_slabs_gap/1-001.dcm",
        "dicom/two_slabs_gap/upper_1-004.dcm",
    ]
    assert {name for name, reason in refused.items() if "label map" in reason} == {
        "abdomen/amos/amos_0001_labels.nii.gz",
        "abdomen/totalsegmentator/example_ct_dicom_labels.nii.gz",
        "abdomen/totalsegmentator/example_ct_labels.nii.gz",
    }
    assert {name.split("/")[1] for name, reason in refused.items() if "needs at least 5" in reason} == {
        "duplicates",
        "rsna_rle",
        "transfer_syntaxes",
        "truncated",
    }
    assert reasons(rejections, real_data) == {
        "dicom/truncated/MR_truncated.dcm": "modality MR, not CT",
        "dicom/truncated/ct_cut_in_header.dcm": "DICOM header damaged or cut short",
    }


@pytest.mark.realdata
def test_each_real_cut_file_is_named(real_data):
    sources, rejections = discover([real_data / "dicom" / "truncated"])
    named = {str(source.path) for source in sources} | {rejection.path for rejection in rejections}
    assert named == {str(path) for path in (real_data / "dicom" / "truncated").iterdir()}
    for source in sources:
        with pytest.raises(ReadError):
            read_source(source)


def test_an_nnunet_folder_gives_first_channels_and_no_labels(tmp_path):
    for name in ("imagesTr/ab_0000.nii.gz", "imagesTr/ab_0001.nii.gz", "imagesTs/c_0000.nii.gz", "labelsTr/ab.nii.gz"):
        (tmp_path / "Dataset001_X" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Dataset001_X" / name).touch()
    (tmp_path / "Dataset001_X" / "dataset.json").write_text('{"channel_names": {"0": "CT"}}')
    sources, rejections = discover([tmp_path])
    assert [(source.path.name, source.patient_id) for source in sources] == [
        ("ab_0000.nii.gz", "ab"),
        ("c_0000.nii.gz", "c"),
    ]
    assert [entry.reason for entry in rejections] == ["channel 0001 of a case; only channel 0000 is read"]


def test_a_competition_folder_gives_its_images_alone(tmp_path, patient):
    root = tmp_path / "rsna"
    patient.write_series(root / "train_images" / "7" / "70", patient.Spec(slices=3))
    (root / "train_images" / "7" / "70" / "note.txt").write_text("x")
    for name in ("train.csv", "train_series_meta.csv", "sample_submission.csv"):
        (root / name).write_text("patient_id\n7\n")
    (root / "segmentations").mkdir()
    (root / "segmentations" / "70.nii").touch()
    for start in (root, tmp_path):
        sources, rejections = discover([start])
        assert [(source.patient_id, source.series_id, len(source.files)) for source in sources] == [("7", "70", 3)]
        assert [entry.path for entry in rejections] == [str(root / "train_images" / "7" / "70" / "note.txt")]


def test_a_dicomdir_is_passed_over(tmp_path, patient):
    patient.write_series(tmp_path, patient.Spec())
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"\x04\x00")
    sources, rejections = discover([tmp_path])
    assert len(sources) == 1
    assert rejections == []


def test_a_list_in_a_folder_beside_the_data_finds_its_images(tmp_path):
    (tmp_path / "BTCV" / "imagesTr").mkdir(parents=True)
    (tmp_path / "BTCV" / "imagesTr" / "a.nii.gz").touch()
    (tmp_path / "jsons").mkdir()
    (tmp_path / "jsons" / "btcv.json").write_text(json.dumps({"training": [{"image": "BTCV/imagesTr/a.nii.gz"}]}))
    sources, rejections = discover([tmp_path / "jsons" / "btcv.json"])
    assert [source.path.name for source in sources] == ["a.nii.gz"]
    assert rejections == []


def test_cases_counted_with_four_digits_are_no_channels(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    for name in ("amos_0001.nii.gz", "amos_0004.nii.gz"):
        (tmp_path / "imagesTr" / name).touch()
    sources, rejections = discover([tmp_path])
    assert len(sources) == 2
    assert rejections == []


def test_a_series_of_a_competition_folder_named_twice_is_taken_once(tmp_path, patient):
    patient.write_series(tmp_path / "train_images" / "7" / "70", patient.Spec(slices=3))
    sources, _ = discover([tmp_path / "train_images" / "7", tmp_path])
    assert len(sources) == 1
