import csv
import hashlib

import numpy as np
import pydicom
import pytest

from voco2d.errors import ReadError
from voco2d.io.dicom_pixels import read_slice_hu


def expected(patient, spec):
    return np.rint(patient.sample(patient.slice_affine(spec), (spec.slices, *spec.shape)))[0]


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"signed": True, "bits": 16},
        {"signed": False, "bits": 12, "intercept": -1024},
        {"signed": True, "bits": 13, "intercept": -8},
        {"signed": False, "bits": 16, "intercept": -32768},
        {"signed": True, "bits": 16, "slope": 0.5, "intercept": 10.5},
    ],
)
def test_hu_is_exact_for_every_way_to_store_it(tmp_path, patient, changes, rle):
    spec = patient.Spec(slices=1, rle=rle, **changes)
    (path,) = patient.write_series(tmp_path, spec)
    assert np.array_equal(read_slice_hu(path), expected(patient, spec))


def test_values_outside_int16_are_clipped_and_padding_stays(tmp_path, patient):
    spec = patient.Spec(slices=1, slope=2)
    stored = np.array([[-2000, 20000], [-20000, 7]])
    patient.write_slice(tmp_path / "a", stored, spec, np.zeros(3), 1)
    assert read_slice_hu(tmp_path / "a").tolist() == [[-4000, 32767], [-32768, 14]]


def test_no_preamble_and_no_meta_header(tmp_path, patient):
    spec = patient.Spec(slices=1)
    (path,) = patient.write_series(tmp_path, spec)
    dataset = pydicom.dcmread(path)
    bare = tmp_path / "bare"
    dataset.file_meta.clear()
    dataset.preamble = None
    pydicom.dcmwrite(bare, dataset, implicit_vr=True, little_endian=True)
    assert bare.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_slice_hu(bare), expected(patient, spec))


def air_with_body(low: int) -> np.ndarray:
    stored = np.full((8, 8), low)
    stored[3:5, 3:5] = low + 1050
    return stored


def test_monochrome1_is_inverted_only_where_the_pixels_are(tmp_path, patient):
    spec = patient.Spec(signed=False, bits=12, intercept=-1024, tags={"PhotometricInterpretation": "MONOCHROME1"})
    patient.write_slice(tmp_path / "straight", air_with_body(24), spec, np.zeros(3), 1)
    patient.write_slice(tmp_path / "inverted", 4095 - air_with_body(24), spec, np.zeros(3), 1)
    straight = read_slice_hu(tmp_path / "straight")
    assert (straight[0, 0], straight[3, 3]) == (-1000, 50)
    assert np.array_equal(read_slice_hu(tmp_path / "inverted"), straight)


def test_colour_and_missing_pixels_are_refused(tmp_path, patient):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1))
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(8 * 10 * 3)
    dataset.save_as(tmp_path / "rgb")
    with pytest.raises(ReadError, match="colour"):
        read_slice_hu(tmp_path / "rgb")
    del dataset.PixelData
    dataset.save_as(tmp_path / "none")
    with pytest.raises(ReadError, match="no pixel data"):
        read_slice_hu(tmp_path / "none")


@pytest.mark.parametrize("rle", [False, True])
def test_cut_pixels_are_refused(tmp_path, patient, rle):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1, shape=(64, 64), rle=rle))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ReadError, match="cut short"):
        read_slice_hu(path)


def test_a_panic_of_the_rle_decoder_is_an_ordinary_error(tmp_path, patient):
    """Damaged RLE made pylibjpeg-rle panic, and PyO3's PanicException is no Exception: it ended the run."""
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1, shape=(32, 32), rle=True))
    whole = path.read_bytes()
    start = whole.index(b"\xe0\x7f\x10\x00")
    outcomes = set()
    for offset in range(start + 80, len(whole) - 8, 7):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x7F]) + whole[offset + 1 :])
        try:
            read_slice_hu(path)
            outcomes.add("read")
        except ReadError as error:
            outcomes.add(error.reason)
    assert "pixel data damaged or cut short" in outcomes


@pytest.mark.realdata
def test_real_pixels_agree_with_two_other_decoders(real_data):
    with (real_data / "expected_pixels.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = []
    for row in rows:
        hu = read_slice_hu(real_data / row["path"])
        if hashlib.sha256(hu.astype("<i2").tobytes()).hexdigest() != row["sha256_int16_le"]:
            wrong.append(row["path"])
    assert len(rows) == 75
    assert wrong == []


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["MR_truncated.dcm", "ct_cut_in_pixels.dcm", "ct_cut_in_header.dcm", "rsna_rle_cut.dcm"]
)
def test_real_cut_files_are_refused(real_data, name):
    with pytest.raises(ReadError, match="cut short"):
        read_slice_hu(real_data / "dicom" / "truncated" / name)
