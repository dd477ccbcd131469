import json

import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.io.numpy_array import read_numpy
from voco2d.io.orientation import axes_affine
from voco2d.io.source import ReadArgs, Source

SIDECAR = {"axes": "IPL", "spacing_mm": [4, 2, 3.0], "intensity": "hu"}


def read(path):
    volume, rejections = read_numpy(Source("numpy", path, (path,)), ReadArgs())
    assert rejections == ()
    return volume


def save(folder, array, sidecar=SIDECAR):
    np.save(folder / "scan.npy", array)
    if sidecar is not None:
        (folder / "scan.json").write_text(json.dumps(sidecar))
    return folder / "scan.npy"


def patient_array(patient, code="IPL"):
    return patient.sample(axes_affine(code, (4.0, 2.0, 3.0)), (6, 7, 8))


@pytest.mark.parametrize("code", ["IPL", "SAR", "LPS", "ARI"])
@pytest.mark.parametrize("dtype", [np.int16, ">i2", np.int32, np.float32])
def test_stated_axes_end_in_patient_axes(tmp_path, patient, code, dtype):
    volume = read(save(tmp_path, patient_array(patient, code).astype(dtype), SIDECAR | {"axes": code}))
    patient.check(volume)
    assert volume.hu.dtype == np.int16
    assert volume.hu.dtype.isnative
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("scan", "", "scan")


def test_fortran_order(tmp_path, patient):
    patient.check(read(save(tmp_path, np.asfortranarray(patient_array(patient)))))


def test_ids_come_from_the_sidecar(tmp_path, patient):
    volume = read(
        save(tmp_path, patient_array(patient), SIDECAR | {"patient_id": 7, "series_id": "s", "study_id": "t"})
    )
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("7", "t", "s")


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.float32, 1)])
def test_a_stated_window_is_undone(tmp_path, dtype, top):
    array = np.linspace(0, top, 6 * 7 * 8).reshape(6, 7, 8).astype(dtype)
    volume = read(save(tmp_path, array, SIDECAR | {"intensity": "windowed", "window_hu": [-200, 300]}))
    assert (volume.hu.min(), volume.hu.max()) == (-200, 300)
    assert volume.notes == ("windowed: to -200 to 300 HU",)


def test_a_missing_sidecar_is_named_with_its_keys(tmp_path, patient):
    with pytest.raises(
        ReadError, match=r"scan.npy: no scan.json beside it; write one with axes, spacing_mm, intensity"
    ):
        read(save(tmp_path, patient_array(patient), None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"axes": None}, "axes must have one letter"),
        ({"axes": "IPP"}, "axes must have one letter"),
        ({"spacing_mm": [1, 2]}, "spacing_mm must be a list of 3 numbers"),
        ({"spacing_mm": [1, 2, "x"]}, "spacing_mm must be a list of 3 numbers"),
        ({"spacing_mm": [1, 2, 0]}, "spacing_mm must be positive"),
        ({"spacing_mm": [10**400, 1, 1]}, "spacing_mm must be a list of 3 numbers"),  # ended the run with a TypeError
        ({"spacing_mm": [1e308, 1, 1]}, "spacing_mm must be a list of 3 numbers"),  # was read as infinite spacing
        ({"spacing_mm": [1e-320, 1, 1]}, "spacing_mm must be positive"),  # was read as a spacing of 0
        ({"intensity": "raw"}, 'intensity must be "hu" or "windowed"'),
        ({"intensity": "windowed"}, "window_hu must give"),
        ({"intensity": "windowed", "window_hu": [5, 1]}, "low below high"),
        ({"colour": 1}, "has 1 unknown; the keys are axes"),
    ],
)
def test_a_wrong_sidecar_is_refused_with_the_key(tmp_path, patient, changes, reason):
    with pytest.raises(ReadError, match=reason):
        read(save(tmp_path, patient_array(patient), SIDECAR | changes))


def test_a_sidecar_that_lacks_keys_or_is_no_json(tmp_path, patient):
    path = save(tmp_path, patient_array(patient), {"axes": "IPL"})
    with pytest.raises(ReadError, match="lacks spacing_mm, intensity"):
        read(path)
    (tmp_path / "scan.json").write_text("{")
    with pytest.raises(ReadError, match="can't be read as JSON"):
        read(path)
    (tmp_path / "scan.json").write_text("[]")
    with pytest.raises(ReadError, match="no JSON object"):
        read(path)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 5)), "not one volume"),
        (np.arange(24.0).reshape(2, 3, 4) - 10, "2 axial slices"),
        (np.array([[[{}]]]), "not a plain NumPy array"),
        (np.random.default_rng(0).integers(0, 256, (6, 20, 20)), "not Hounsfield units"),
    ],
)
def test_arrays_that_are_no_volume_are_refused(tmp_path, array, reason):
    with pytest.raises(ReadError, match=reason):
        read(save(tmp_path, array))


def test_cut_arrays_are_refused(tmp_path, patient):
    path = save(tmp_path, patient_array(patient))
    whole = path.read_bytes()
    for size in (0, 40, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(ReadError, match="damaged"):
            read(path)


def test_a_sidecar_of_endless_brackets_is_refused(tmp_path, patient):
    # json raises RecursionError, which is no ValueError and ended the run
    path = save(tmp_path, patient_array(patient))
    (tmp_path / "scan.json").write_text("[" * 100_000)
    with pytest.raises(ReadError, match="can't be read as JSON"):
        read(path)


def test_half_a_character_in_an_id_is_replaced(tmp_path, patient):
    # the table of the store could not be written with it
    assert read(save(tmp_path, patient_array(patient), SIDECAR | {"patient_id": "a\ud800"})).patient_id == "a?"
