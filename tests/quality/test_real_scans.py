"""Anatomy on real scans and their mirror images; limits were set on these very scans."""

from dataclasses import replace

import numpy as np
import pytest

from voco2d import read_volume
from voco2d.io.source import ReadArgs
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.quality.measure import measure

RIGHT = (
    "ircad/3dircadb1_01",
    "crlm/crlm-ct-1004",
    "nsclc_radiomics/lung1-001",
    "lidc/lidc-idri-0001",
    "amos/amos_0001",
)
NO_ABDOMEN = ("no_abdomen/a056396", "kits/kits-00072", "chest_pe/9328.50.1.0117", "cmb_crc/cmb-crc-msb-01068")


def row(real_data, name, mirrored=False):
    volume = read_volume(real_data / "abdomen" / f"{name}.nii.gz")
    prepared = prepare_volume(volume)
    if mirrored:
        prepared = replace(prepared, hu=np.ascontiguousarray(prepared.hu[:, :, ::-1]))
    return measure(volume, prepared)


@pytest.mark.realdata
@pytest.mark.parametrize("name", RIGHT)
def test_liver_is_on_the_right_and_its_mirror_image_is_suspected(real_data, name):
    plain = row(real_data, name)
    assert plain["liver_side"] == "right"
    assert plain["is_abdomen"] == "yes"
    assert "mirrored_suspect" in row(real_data, name, mirrored=True)["flags"]


@pytest.mark.realdata
@pytest.mark.parametrize("name", NO_ABDOMEN)
def test_chest_and_shoulders_are_told_apart(real_data, name):
    assert "not_abdomen" in row(real_data, name)["flags"]


@pytest.mark.realdata
@pytest.mark.parametrize("correct_tilt", [True, False])
@pytest.mark.parametrize("body_crop", [True, False])
def test_head_with_a_tilted_gantry_has_its_flag_and_no_odd_values(real_data, correct_tilt, body_crop):
    volume = read_volume(real_data / "dicom" / "ge_tilt_variable_spacing", ReadArgs(correct_tilt=correct_tilt))
    flags = measure(volume, prepare_volume(volume, PreprocessArgs(body_crop=body_crop)))["flags"].split(";")
    assert "tilt" in flags
    assert not {"odd_hu", "windowed"} & set(flags)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("dicom/missing_slice", "gaps"),
        ("dicom/overlapping_slices", "short"),
        ("abdomen/rsna2023/19_14374.nii.gz", "windowed"),
    ],
)
def test_quirks_of_real_files_become_flags(real_data, name, flag):
    volume = read_volume(real_data / name)
    assert flag in measure(volume, prepare_volume(volume))["flags"].split(";")
