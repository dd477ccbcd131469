from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.io.discover import discover
from voco2d.io.nifti import read_nifti
from voco2d.io.orientation import swap_lps_ras, to_patient_axes
from voco2d.io.readers import read_source
from voco2d.io.source import ReadArgs, Source
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_masks import OrganMask, find_mask, organ_box, read_mask
from voco2d.types import HuVolume

MakeVolume = Callable[[HuVolume], Volume]
ORGANS = (3, 9, 20, 40, 10, 30)


@pytest.fixture
def volume(make_volume: MakeVolume) -> Volume:
    return replace(make_volume(np.full((12, 64, 48), 40, dtype=np.int16)), series_id="14374", source="/scans/19/14374")


def labels_of(volume: Volume, box: tuple[int, ...] = ORGANS, label: int = 1) -> np.ndarray:
    array = np.zeros(volume.hu.shape, dtype=np.uint8)
    array[box[0] : box[1], box[2] : box[3], box[4] : box[5]] = label
    return array


def save(path: Path, array: np.ndarray, affine_lps: np.ndarray, axes: tuple[int, int, int] = (2, 1, 0)) -> Path:
    """Write with other axes than the volume's, all flipped, and the affine that says so."""
    turned, affine = np.transpose(array, axes), affine_lps[:, [*axes, 3]].copy()
    for axis in range(3):
        turned = np.flip(turned, axis)
        affine[:, 3] += affine[:, axis] * (turned.shape[axis] - 1)
        affine[:, axis] *= -1
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nib.Nifti1Image(np.ascontiguousarray(turned), swap_lps_ras(affine))  # type: ignore[no-untyped-call]
    nib.save(image, path)
    return path


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_other_axes_in_the_file_make_no_difference(tmp_path: Path, volume: Volume, axes: tuple[int, int, int]) -> None:
    path = save(tmp_path / "14374.nii", labels_of(volume), volume.affine_lps, axes)
    assert organ_box(read_mask(path), volume, margin_mm=0.0) == ORGANS


def test_margin_is_in_millimetres_and_ends_at_the_volume(tmp_path: Path, volume: Volume) -> None:
    mask = read_mask(save(tmp_path / "14374.nii", labels_of(volume), volume.affine_lps))
    z_mm, h_mm, w_mm = volume.spacing_mm
    assert organ_box(mask, volume, margin_mm=4.0) == (
        3 - int(4 / z_mm),
        9 + int(4 / z_mm),
        20 - int(4 / h_mm),
        40 + int(4 / h_mm),
        10 - int(4 / w_mm),
        30 + int(4 / w_mm),
    )
    assert organ_box(mask, volume, margin_mm=500.0) == (0, 12, 0, 64, 0, 48)


def test_a_coarser_grid_is_laid_on_the_volume(tmp_path: Path, volume: Volume) -> None:
    array = labels_of(volume, (4, 8, 20, 40, 10, 30))[::2, ::2, ::2]
    affine = volume.affine_lps.copy()
    affine[:3, 3] += affine[:3, :3] @ [0.5, 0.5, 0.5]
    affine[:3, :3] *= 2
    assert organ_box(read_mask(save(tmp_path / "m.nii", array, affine)), volume, 0.0) == (4, 8, 20, 40, 10, 30)


def test_only_the_largest_component_counts(volume: Volume) -> None:
    inside = labels_of(volume) > 0
    inside[0, 60:63, 40:44] = True
    assert organ_box(OrganMask(inside, volume.affine_lps), volume, 0.0) == ORGANS


def test_large_masks_are_searched_coarsely(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco2d.preprocessing.organ_masks._LABEL_VOXELS", 3000)
    box = organ_box(OrganMask(labels_of(volume) > 0, volume.affine_lps), volume, 0.0)
    assert np.abs(np.subtract(box, ORGANS)).max() <= 2


def test_labels_are_rsna_numbers_or_totalsegmentator_numbers(tmp_path: Path, volume: Volume) -> None:
    array = labels_of(volume, label=5)
    rsna = read_mask(save(tmp_path / "rsna.nii", array, volume.affine_lps))
    array[0, 0, 0], array[11, 63, 47] = 52, 4  # aorta and gallbladder
    total = read_mask(save(tmp_path / "total.nii", array, volume.affine_lps))
    chosen = read_mask(tmp_path / "total.nii", labels=(52,))
    assert rsna.inside.sum() == total.inside.sum() == (labels_of(volume) > 0).sum()
    assert chosen.inside.sum() == 1


def test_one_file_an_organ_is_joined(tmp_path: Path, volume: Volume) -> None:
    save(tmp_path / "14374" / "liver.nii.gz", labels_of(volume, (3, 9, 20, 30, 10, 30)), volume.affine_lps)
    save(tmp_path / "14374" / "spleen.nii.gz", labels_of(volume, (3, 9, 30, 40, 10, 30)), volume.affine_lps)
    save(tmp_path / "14374" / "aorta.nii.gz", labels_of(volume, (0, 12, 0, 64, 0, 48)), volume.affine_lps)
    path = find_mask(tmp_path, volume)
    assert path == tmp_path / "14374"
    assert organ_box(read_mask(path), volume, 0.0) == ORGANS


@pytest.mark.parametrize("name", ["14374.nii", "14374.nii.gz", "14374_labels.nii.gz", "segmentations/14374.nii"])
def test_masks_are_found_by_their_names(tmp_path: Path, volume: Volume, name: str) -> None:
    assert find_mask(tmp_path, volume) is None
    assert find_mask(tmp_path, replace(volume, series_id="", source="/scans/case_7.nii.gz")) is None
    path = save(tmp_path / name, labels_of(volume), volume.affine_lps)
    assert find_mask(tmp_path, volume) == path
    assert find_mask(tmp_path, replace(volume, series_id="1.2.3", source="/scans/14374.nii.gz")) == path


def test_the_scan_itself_is_not_its_mask(tmp_path: Path, volume: Volume) -> None:
    path = save(tmp_path / "14374.nii.gz", labels_of(volume), volume.affine_lps)
    assert find_mask(tmp_path, replace(volume, source=str(path))) is None


@pytest.mark.parametrize("series_id", ["../outside", "..", "/etc/passwd", "a\0b"])
def test_identifiers_do_not_lead_out_of_the_folder(tmp_path: Path, volume: Volume, series_id: str) -> None:
    save(tmp_path / "outside.nii", labels_of(volume), volume.affine_lps)
    (tmp_path / "masks").mkdir()
    assert find_mask(tmp_path / "masks", replace(volume, series_id=series_id)) is None


def test_what_is_no_mask_is_refused(tmp_path: Path, volume: Volume) -> None:
    (tmp_path / "damaged.nii").write_bytes(b"\0" * 400)
    with pytest.raises(ReadError, match="can't be read"):
        read_mask(tmp_path / "damaged.nii")
    plain: Any = nib.Nifti1Image(labels_of(volume), None)  # type: ignore[no-untyped-call]
    nib.save(plain, tmp_path / "plain.nii")
    with pytest.raises(ReadError, match="without geometry"):
        read_mask(tmp_path / "plain.nii")
    with pytest.raises(ReadError, match="none of the organs"):
        organ_box(OrganMask(np.zeros((2, 2, 2), dtype=bool), volume.affine_lps), volume, 0.0)


def test_a_mask_of_another_place_is_refused(volume: Volume) -> None:
    affine = volume.affine_lps.copy()
    affine[:3, 3] += 500
    with pytest.raises(ReadError, match="does not lie on the body"):
        organ_box(OrganMask(labels_of(volume) > 0, affine), volume, 0.0)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("scan", "masks", "labels"),
    [
        ("amos/amos_0001", "amos/amos_0001_labels", (1, 2, 3, 6)),
        ("totalsegmentator/example_ct", "totalsegmentator/example_ct_labels", ()),
    ],
)
def test_real_masks_lie_on_their_scans(real_data: Path, scan: str, masks: str, labels: tuple[int, ...]) -> None:
    file = real_data / "abdomen" / f"{scan}.nii.gz"
    volume, _ = read_nifti(Source("nifti", file, (file,)), ReadArgs())
    path = find_mask(file.parent, volume)
    assert path == real_data / "abdomen" / f"{masks}.nii.gz"
    mask = read_mask(path, labels)
    turned, _ = to_patient_axes(mask.inside, mask.affine_lps)
    assert np.median(volume.hu[turned]) == pytest.approx(80, abs=70)
    z0, z1, h0, h1, w0, w1 = organ_box(mask, volume, margin_mm=0.0)
    covered = turned[z0:z1, h0:h1, w0:w1].sum() / turned.sum()
    assert covered > 0.5
    assert (z1 - z0) * (h1 - h0) * (w1 - w0) < 0.8 * volume.hu.size


@pytest.mark.realdata
def test_a_real_mask_of_other_axes_lies_on_its_dicom_series(real_data: Path) -> None:
    (source,), _ = discover([real_data / "dicom" / "jpeg2000_series"])
    volume, _ = read_source(source, ReadArgs())
    mask = read_mask(real_data / "abdomen" / "totalsegmentator" / "example_ct_dicom_labels.nii.gz")
    turned, affine = to_patient_axes(mask.inside, mask.affine_lps)
    np.testing.assert_allclose(affine, volume.affine_lps, atol=1e-3)
    assert np.median(volume.hu[turned]) == pytest.approx(89, abs=5)
    z0, z1, h0, h1, w0, w1 = organ_box(mask, volume, margin_mm=0.0)
    assert (z0, z1) == (0, 20)
    assert turned[:, h0:h1, w0:w1].sum() > 0.6 * turned.sum()
