from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pytest

from voco2d.config import from_tree, to_tree
from voco2d.errors import ConfigError, UsageError
from voco2d.io.orientation import swap_lps_ras
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_crop import NO_ORGAN_BOX, OrganCrop, check_organ_crop
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume, settings_tree
from voco2d.types import HuVolume

ARGS = PreprocessArgs(size=(4, 16, 16), organ_crop="masks", organ_margin_mm=0.0)


@pytest.fixture
def volume(make_volume: Callable[[HuVolume], Volume], body: Callable[..., HuVolume]) -> Volume:
    return replace(make_volume(body((12, 64, 64), (32, 32), (24, 28))), series_id="77", source="/scans/9/77")


@pytest.fixture
def masks(tmp_path: Path, volume: Volume) -> Path:
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    labels[3:9, 25:40, 12:30] = 1
    image: Any = nib.Nifti1Image(labels, swap_lps_ras(volume.affine_lps))  # type: ignore[no-untyped-call]
    nib.save(image, tmp_path / "77.nii")
    return tmp_path


def test_the_organs_are_cut_out_and_noted(volume: Volume, masks: Path) -> None:
    prepared = prepare_volume(volume, ARGS, masks=masks)
    assert prepared.box == (3, 9, 25, 40, 12, 30)
    assert prepared.notes == ("organ box: 6 x 15 x 18 voxels with 0 mm margin",)


def test_partly_black_slices_stay_out_of_the_organ_box(volume: Volume, masks: Path) -> None:
    hu = np.where(volume.hu == -1000, -1024, volume.hu)
    hu[:4, 30:] = -1024  # more than a quarter at one end would stay
    hu[:1] = volume.hu[:1]
    dropped = prepare_volume(replace(volume, hu=hu[1:]), ARGS, masks=masks)
    assert dropped.box[0] >= 3


@pytest.mark.parametrize("folder", ["empty", None])
def test_a_series_without_a_mask_is_cropped_to_its_body(volume: Volume, tmp_path: Path, folder: str | None) -> None:
    (tmp_path / "empty").mkdir()
    prepared = prepare_volume(volume, ARGS, masks=tmp_path / folder if folder else None)
    assert prepared.box == prepare_volume(volume, PreprocessArgs(size=(4, 16, 16))).box
    (note,) = prepared.notes
    assert note.startswith(NO_ORGAN_BOX)
    assert note.endswith("crop to the body instead")


def test_a_damaged_mask_is_noted_without_its_path(volume: Volume, masks: Path) -> None:
    (masks / "77.nii").write_bytes(b"\0" * 400)
    (note,) = prepare_volume(volume, replace(ARGS, body_crop=False), masks=masks).notes
    assert note == "organ box: none, mask can't be read, not cropped"


def test_useless_settings_are_refused_before_work_begins(tmp_path: Path) -> None:
    check_organ_crop("masks", None)
    check_organ_crop("masks", tmp_path)
    check_organ_crop("none", None)
    with pytest.raises(UsageError, match="no such folder"):
        check_organ_crop("masks", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="organ_crop=masks"):
        check_organ_crop("none", tmp_path)


def test_settings_survive_a_store_and_unknown_kinds_are_refused() -> None:
    args = replace(ARGS, organ_labels=(1, 6), spacing_mm=(5.0, 1.5, 1.5))
    assert from_tree(PreprocessArgs, settings_tree(to_tree(args))) == args
    assert set(get_args(OrganCrop)) == {"none", "masks", "totalsegmentator"}
    with pytest.raises(ConfigError, match="organ_crop"):
        from_tree(PreprocessArgs, {"organ_crop": "liver"})


def test_settings_of_older_stores_mean_what_was_done_then() -> None:
    old = {"size": [8, 16, 16], "body_crop": True, "clip_hu": [-1024, 3071], "body_threshold_hu": -500}
    args = from_tree(PreprocessArgs, settings_tree(old))
    assert args == PreprocessArgs(size=(8, 16, 16), drop_partial=False)
    assert (args.spacing_mm, args.organ_crop) == (None, "none")
