import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import ConfigError, ReadError
from voco2d.io.nifti import nifti_stem, read_nifti
from voco2d.io.orientation import axes_affine, swap_lps_ras
from voco2d.io.readers import read_volume
from voco2d.io.source import ReadArgs, Source


def read(path, **args):
    volume, rejections = read_nifti(Source("nifti", path, (path,)), ReadArgs(**args))
    assert rejections == ()
    return volume


def affine_ras(code: str = "IPL") -> np.ndarray:
    affine = axes_affine(code, (4.0, 2.0, 3.0))
    affine[:3, 3] = (5.0, -6.0, 7.0)
    return swap_lps_ras(affine)


def save(path, array, affine, **codes) -> None:
    image = nib.Nifti1Image(array, affine)
    for name, code in codes.items():
        getattr(image, f"set_{name}")(None if code == 0 else affine, code)
    nib.save(image, path)


def patient_array(patient, code: str = "IPL", shape=(6, 7, 8)) -> np.ndarray:
    return patient.sample(swap_lps_ras(affine_ras(code)), shape).astype(np.int16)


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAI", "ARI", "IPL", "SRP", "PIR"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_every_orientation_ends_in_patient_axes(tmp_path, patient, code, name):
    save(tmp_path / name, patient_array(patient, code), affine_ras(code))
    volume = read(tmp_path / name)
    patient.check(volume)
    assert volume.notes == ()
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("scan", "", "scan")


def test_oblique_affine_is_kept_and_noted(tmp_path, patient):
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine_ras()
    array = patient.sample(swap_lps_ras(affine), (6, 7, 8)).astype(np.float32)
    save(tmp_path / "scan.nii", array, affine)
    volume = read(tmp_path / "scan.nii")
    patient.check(volume, tolerance=0.51)
    assert volume.notes == ("oblique: 20.0 deg",)


def test_scaled_voxels_are_rescaled(tmp_path, patient):
    image = nib.Nifti1Image((patient_array(patient) + 30) * 2, affine_ras())
    image.header.set_slope_inter(0.5, -30)
    nib.save(image, tmp_path / "scan.nii")
    patient.check(read(tmp_path / "scan.nii"))


def test_one_volume_of_four_axes_is_taken_and_more_are_refused(tmp_path, patient):
    array = patient_array(patient)
    save(tmp_path / "one.nii", array[..., None], affine_ras())
    patient.check(read(tmp_path / "one.nii"))
    save(tmp_path / "two.nii", np.stack([array, array], -1), affine_ras())
    with pytest.raises(ReadError, match="not one volume"):
        read(tmp_path / "two.nii")


def test_identity_affine_takes_the_axes_asked_for(tmp_path, patient):
    array = patient_array(patient, "ARI")
    save(tmp_path / "scan.nii", array, np.eye(4))
    assert read(tmp_path / "scan.nii").notes == ("no geometry: identity affine, axes taken as RAS",)
    volume = read(tmp_path / "scan.nii", identity_axes="ARI")
    assert volume.notes == ("no geometry: identity affine, axes taken as ARI",)
    assert np.array_equal(volume.hu, array.transpose(2, 0, 1)[:, ::-1, ::-1])


def test_unset_geometry_keeps_the_spacing(tmp_path, patient):
    image = nib.Nifti1Image(patient_array(patient), None)
    image.header.set_zooms((4, 2, 3))
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, tmp_path / "scan.nii")
    volume = read(tmp_path / "scan.nii", identity_axes="IPL")
    assert volume.spacing_mm == (4.0, 2.0, 3.0)
    assert volume.hu.shape == (6, 7, 8)
    assert volume.notes[0].startswith("no geometry: ")


def test_forms_that_disagree_are_noted_and_the_sform_is_taken(tmp_path, patient):
    image = nib.Nifti1Image(patient_array(patient), affine_ras())
    image.set_sform(affine_ras(), 1)
    moved = affine_ras()
    moved[0, 3] += 30
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "scan.nii")
    volume = read(tmp_path / "scan.nii")
    patient.check(volume)
    assert volume.notes == ("conflict: sform and qform lie up to 30 mm apart, sform taken",)


def test_lengths_in_other_units_become_millimetres(tmp_path, patient):
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        affine = affine_ras()
        affine[:3] *= factor
        image = nib.Nifti1Image(patient_array(patient), affine)
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{unit}.nii")
        volume = read(tmp_path / f"{unit}.nii")
        assert np.allclose(volume.spacing_mm, (4, 2, 3), atol=1e-5)
        assert volume.notes == ()


def test_a_unit_that_fits_no_body_is_not_believed(tmp_path, patient):
    image = nib.Nifti1Image(patient_array(patient), affine_ras())
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "scan.nii")
    volume = read(tmp_path / "scan.nii")
    assert volume.spacing_mm == (4, 2, 3)
    assert volume.notes == ("conflict: the header's unit of length is meter, its voxel size fits mm, mm taken",)


def test_voxels_farther_apart_than_a_body_is_long_are_refused(tmp_path, patient):
    save(tmp_path / "scan.nii", patient_array(patient), affine_ras() @ np.diag([1, 1000, 1, 1]))
    with pytest.raises(ReadError, match=r"voxels 4 x 2e\+03 x 3 mm apart, a CT's are 0.01 to 100 mm"):
        read(tmp_path / "scan.nii")


def test_a_voxel_size_of_zero_is_no_geometry_and_nibabel_says_nothing(tmp_path, patient, caplog):
    path = tmp_path / "scan.nii"
    save(path, patient_array(patient), affine_ras(), qform=1, sform=0)
    header = bytearray(path.read_bytes())
    header[80:92] = bytes(12)  # pixdim[1..3]
    path.write_bytes(header)
    volume = read(path)
    assert volume.spacing_mm == (1, 1, 1)
    assert volume.notes == ("no geometry: the header stores a voxel size of 0, taken as 1 mm",)
    assert caplog.records == []


def test_nan_voxels_are_counted(tmp_path, patient):
    array = patient_array(patient).astype(np.float32)
    array[0, 0, :5] = np.nan
    save(tmp_path / "scan.nii", array, affine_ras())
    with pytest.raises(ReadError, match="5 of 336 voxels are NaN or infinite"):
        read(tmp_path / "scan.nii")


def test_two_slices_are_refused(tmp_path, patient):
    save(tmp_path / "scan.nii", patient_array(patient, "RAS", (6, 7, 2)), affine_ras("RAS"))
    with pytest.raises(ReadError, match="2 axial slices, a volume needs at least 5"):
        read(tmp_path / "scan.nii")


def test_a_label_map_is_refused(tmp_path):
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:4, 3:9, 3:9] = 6
    save(tmp_path / "scan.nii", labels, affine_ras())
    with pytest.raises(ReadError, match="label map"):
        read(tmp_path / "scan.nii")


def test_colours_are_refused(tmp_path):
    rgb = np.zeros((6, 7, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(tmp_path / "scan.nii", rgb, affine_ras())
    with pytest.raises(ReadError, match="one number a voxel"):
        read(tmp_path / "scan.nii")


def test_a_singular_affine_is_refused(tmp_path, patient):
    image = nib.Nifti1Image(patient_array(patient), affine_ras())
    flat = affine_ras()
    flat[:3, 1] = flat[:3, 0]
    image.header.set_sform(flat, 1)
    image.header["qform_code"] = 0
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = flat[:3]
    raw = image.header.binaryblock + bytes(4) + patient_array(patient).tobytes(order="F")
    (tmp_path / "scan.nii").write_bytes(raw)
    with pytest.raises(ReadError, match="has no inverse"):
        read(tmp_path / "scan.nii")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_cut_files_are_refused(tmp_path, patient, name, keep):
    path = tmp_path / name
    save(path, patient_array(patient, shape=(12, 30, 30)), affine_ras())
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"cut short|damaged"):
        read(path)


def test_text_named_nii_is_refused(tmp_path):
    for name in ("scan.nii", "scan.nii.gz"):
        (tmp_path / name).write_text("no image at all")
        with pytest.raises(ReadError, match=r"not a NIfTI file|damaged"):
            read(tmp_path / name)


@pytest.mark.parametrize("shape", [(30000, 30000, 3000), (2000, 1000, 1000)])
def test_headers_that_promise_too_much_are_refused_before_loading(tmp_path, patient, shape):
    save(tmp_path / "scan.nii", patient_array(patient), affine_ras())
    raw = bytearray((tmp_path / "scan.nii").read_bytes())
    raw[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(ReadError, match="promises"):
        read(tmp_path / "bomb.nii.gz")


def test_stem():
    assert [nifti_stem(path) for path in map(Path, ("a.b.nii.gz", "a.nii", "nii.gz.nii"))] == ["a.b", "a", "nii.gz"]


def test_identity_axes_must_be_a_code():
    with pytest.raises(ConfigError, match="identity_axes is 'RAR'"):
        ReadArgs(identity_axes="RAR")
    with pytest.raises(ConfigError, match="min_slices is 1"):
        ReadArgs(min_slices=1)


@pytest.mark.realdata
def test_real_windowed_scan_stands_upright_with_its_true_axes(real_data):
    path = real_data / "abdomen" / "rsna2023" / "19_14374.nii.gz"
    volume = read_volume(path, ReadArgs(identity_axes="ARI"))
    assert [note.split(":")[0] for note in volume.notes] == ["no geometry", "windowed"]
    assert (volume.hu.min(), volume.hu.max()) == (-150, 250)
    _, heights, _ = np.nonzero(volume.hu > -100)
    _, bone_heights, _ = np.nonzero(volume.hu == 250)
    assert np.median(bone_heights) > np.median(heights) + 10, "the spine is posterior"
    liver = volume.hu[20:40, 110:170, 25:70]
    spleen = volume.hu[20:40, 110:170, 186:231]
    assert np.mean(np.abs(liver - 100.0) < 50) > np.mean(np.abs(spleen - 100.0) < 50), "the liver is on the right"
