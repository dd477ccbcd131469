import json

import pytest

from voco2d.errors import UsageError
from voco2d.io.dataset_list import read_dataset_list


def test_images_of_all_splits_are_taken_and_missing_ones_rejected(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).touch()
    content = {
        "name": "Abdomen",
        "modality": {"0": "CT"},
        "training": [{"image": "a.nii.gz", "label": "labels/a.nii.gz"}, {"image": "gone.nii.gz"}],
        "test": ["./b.nii.gz", "a.nii.gz"],
        "tags": ["liver"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    images, rejections = read_dataset_list(tmp_path / "dataset.json")
    assert images == [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    assert [(rejection.path, rejection.reason) for rejection in rejections] == [
        (str(tmp_path / "gone.nii.gz"), "named in dataset.json but missing")
    ]


@pytest.mark.parametrize("content", ["{}", "3", "[]", "no json", "[" * 100_000, '{"training": [{"image": 3}]}'])
def test_what_is_no_list_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match=r"x\.json: "):
        read_dataset_list(tmp_path / "x.json")


def test_further_channels_and_entries_without_an_image_are_listed(tmp_path):
    for name in ("a_0.nii", "a_1.nii", "b.nii"):
        (tmp_path / name).touch()
    entries = [{"image": ["a_0.nii", "a_1.nii"]}, {"image": ["b.nii"]}, {"label": "c.nii"}, {"image": None}]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries, "labels": [{"name": "liver"}], "n": [1, 2]}))
    images, rejections = read_dataset_list(tmp_path / "list.json")
    assert images == [tmp_path / "a_0.nii", tmp_path / "b.nii"]
    assert [(rejection.path, rejection.reason) for rejection in rejections] == [
        (str(tmp_path / "a_1.nii"), "channel 2 of a case in list.json; only the first is read"),
        (str(tmp_path / "list.json"), "entry 3 of training names no image"),
        (str(tmp_path / "list.json"), "entry 4 of training names no image"),
    ]


def test_a_missing_first_image_does_not_lose_the_others(tmp_path):
    """The folder above that the names are relative to was taken from the first image alone."""
    (tmp_path / "jsons").mkdir()
    (tmp_path / "b.nii").touch()
    (tmp_path / "jsons" / "list.json").write_text(json.dumps({"training": [{"image": "a.nii"}, {"image": "b.nii"}]}))
    images, rejections = read_dataset_list(tmp_path / "jsons" / "list.json")
    assert images == [tmp_path / "b.nii"]
    assert [rejection.path for rejection in rejections] == [str(tmp_path / "a.nii")]


def test_images_of_one_list_lie_below_one_folder(tmp_path):
    """A name that is missing beside the list could be that of another data set's image further up."""
    (tmp_path / "set").mkdir()
    for path in ("a.nii", "b.nii", "set/a.nii"):
        (tmp_path / path).touch()
    (tmp_path / "set" / "list.json").write_text(json.dumps(["a.nii", "b.nii"]))
    images, rejections = read_dataset_list(tmp_path / "set" / "list.json")
    assert images == [tmp_path / "set" / "a.nii"]
    assert [rejection.path for rejection in rejections] == [str(tmp_path / "set" / "b.nii")]


@pytest.mark.parametrize("name", ["x/" + "y" * 300 + ".nii", "zero\0.nii"])
def test_names_that_are_no_paths_are_rejected(tmp_path, name):
    (tmp_path / "a.nii").touch()
    (tmp_path / "list.json").write_text(json.dumps(["a.nii", name]))
    images, rejections = read_dataset_list(tmp_path / "list.json")
    assert (len(images), len(rejections)) == (1, 1)
