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
