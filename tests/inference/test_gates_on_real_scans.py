"""Every real scan: which are graded, and which are refused by which gate. The limits were set on these very scans."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voco2d.inference.predictor import Predictor
from voco2d.inference.results import StudyResult
from voco2d.io.readers import read_volume
from voco2d.io.volume import Volume

pytestmark = pytest.mark.realdata

ABDOMENS = (
    "abdomen/ircad/3dircadb1_01.nii.gz",
    "abdomen/crlm/crlm-ct-1004.nii.gz",
    "abdomen/cptac/c3l-00189.nii.gz",
    "abdomen/acrin_flt_breast/acrin-flt-breast_013.nii.gz",
    "abdomen/nsclc_radiomics/lung1-001.nii.gz",
    "abdomen/lidc/lidc-idri-0001.nii.gz",
    "abdomen/totalsegmentator/example_ct.nii.gz",
    "abdomen/rsna2023/19_14374.nii.gz",
)
REFUSED = {
    "dicom/ge_tilt_variable_spacing": {"not_abdomen", "too_few_slices", "incomplete_coverage"},  # a head
    "abdomen/no_abdomen/a056396.nii.gz": {"not_abdomen", "too_few_slices", "incomplete_coverage"},  # shoulders
    "abdomen/cmb_crc/cmb-crc-msb-01068.nii.gz": {"not_abdomen"},  # a chest with the liver's dome
    "abdomen/chest_pe/9328.50.1.0117.nii.gz": {"not_abdomen", "incomplete_coverage"},  # a chest with the liver's dome
    "abdomen/kits/kits-00072.nii.gz": {"not_abdomen", "too_few_slices", "incomplete_coverage"},  # 45 mm of chest
    "dicom/overlapping_slices": {"not_abdomen", "too_few_slices", "incomplete_coverage"},  # 30 mm of the same chest
    "abdomen/amos/amos_0001.nii.gz": {"too_few_slices", "incomplete_coverage"},  # 55 mm of abdomen
    "dicom/jpeg2000_series": {"incomplete_coverage"},  # 40 mm of abdomen
    "dicom/missing_slice": {"too_few_slices", "incomplete_coverage"},  # 40 mm of abdomen
    "abdomen/totalsegmentator/aorta_ct_cropped.nii.gz": {"incomplete_coverage"},  # cut on all sides
}


def refused_by(study: StudyResult) -> set[str]:
    return {finding.gate for entry in study.series for finding in entry.findings if finding.refuses}


@pytest.mark.parametrize("scan", ABDOMENS)
def test_an_abdomen_is_graded(scan: str, real_data: Path, mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor().predict(real_data / scan)
    assert (study.status, refused_by(study)) == ("assessed", set()), study.reason
    assert study.probabilities is not None


@pytest.mark.parametrize("scan", REFUSED)
def test_what_is_no_abdomen_or_too_little_is_refused(
    scan: str, real_data: Path, mean_predictor: Callable[..., Predictor]
) -> None:
    flagged = mean_predictor(gates="flag").predict(real_data / scan)
    study = mean_predictor().predict(real_data / scan)
    assert refused_by(flagged) == refused_by(study) == REFUSED[scan]
    assert study.status == "not_assessed"
    assert study.probabilities is None
    assert study.reason.startswith("not an abdomen: ") == ("not_abdomen" in REFUSED[scan]), study.reason


def test_both_slabs_of_a_split_series_are_refused(real_data: Path, mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor().predict(real_data / "dicom" / "two_slabs_gap")  # chest, and head
    assert len(study.series) == 2
    for entry in study.series:
        gates = {finding.gate for finding in entry.findings if finding.refuses}
        assert gates == {"not_abdomen", "too_few_slices", "incomplete_coverage"}


def part(volume: Volume, top_mm: float, bottom_mm: float) -> Volume:
    step = volume.spacing_mm[0]
    kept = slice(round(top_mm / step), round(bottom_mm / step))
    return replace(volume, hu=np.ascontiguousarray(volume.hu[kept]), extent_mm=None)


@pytest.mark.parametrize(
    ("scan", "top_mm", "bottom_mm"),
    [
        ("abdomen/lidc/lidc-idri-0001.nii.gz", 0, 200),  # neck and chest
        ("abdomen/nsclc_radiomics/lung1-001.nii.gz", 0, 260),  # neck and chest
        ("abdomen/nsclc_radiomics/lung1-001.nii.gz", 0, 120),  # neck and shoulders
        ("abdomen/totalsegmentator/example_ct.nii.gz", 216, 336),  # hips and thighs
    ],
)
def test_parts_that_no_limit_was_set_on_are_refused(
    scan: str, top_mm: float, bottom_mm: float, real_data: Path, mean_predictor: Callable[..., Predictor]
) -> None:
    volume = part(read_volume(real_data / scan), top_mm, bottom_mm)
    study = mean_predictor(gates="flag").predict(volume)
    assert refused_by(study) & {"not_abdomen", "incomplete_coverage"}, study.reason


@pytest.mark.parametrize(
    ("scan", "top_mm", "bottom_mm"),
    [
        ("abdomen/lidc/lidc-idri-0001.nii.gz", 180, 332),
        ("abdomen/nsclc_radiomics/lung1-001.nii.gz", 200, 402),
        ("abdomen/ircad/3dircadb1_01.nii.gz", 40, 206),
        ("abdomen/totalsegmentator/example_ct.nii.gz", 0, 240),
    ],
)
def test_abdomens_that_no_limit_was_set_on_are_graded(
    scan: str, top_mm: float, bottom_mm: float, real_data: Path, mean_predictor: Callable[..., Predictor]
) -> None:
    volume = part(read_volume(real_data / scan), top_mm, bottom_mm)
    study = mean_predictor().predict(volume)
    assert study.status == "assessed", study.reason
