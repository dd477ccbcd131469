"""The quick way to read a header says what pydicom says, or nothing."""

import pydicom
import pytest
from pydicom import uid
from pydicom.sequence import Sequence

from voco2d.io.dicom_elements import numbers, text
from voco2d.io.dicom_plain import _TAGS, START_BYTES, parse_plain_header

TEXTS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "AcquisitionNumber", "SOPClassUID")


def read_plain_header(path):
    return parse_plain_header(path.read_bytes()[:START_BYTES])


def assert_same(path):
    plain, full = read_plain_header(path), pydicom.dcmread(path, stop_before_pixels=True)
    assert plain is not None
    for keyword in _TAGS:
        if keyword not in (*TEXTS, "ImageType", "PhotometricInterpretation"):
            modulo = 2**16 if keyword.startswith("PixelPadding") else 2**40  # whose sign depends on the pixels'
            mine, theirs = ([value % modulo for value in numbers(header, keyword)] for header in (plain, full))
            assert mine == theirs, keyword
    for keyword in TEXTS:
        assert text(plain, keyword) == text(full, keyword), keyword
    assert (plain.get("ImageType") is None) == ("ImageType" not in full)
    with path.open("rb") as file:
        pydicom.dcmread(file, stop_before_pixels=True)
        assert file.tell() == plain.pixels


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("rle", [False, True])
def test_ordinary_headers_are_the_same(tmp_path, patient, implicit, rle):
    tags = {"RescaleSlope": "", "AcquisitionNumber": 3, "ImageType": ["ORIGINAL", "PRIMARY"]}
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1, rle=rle, tags={"AcquisitionNumber": 3}))
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    if implicit and not rle:
        ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(path, ds, implicit_vr=True, little_endian=True)
    else:
        ds.save_as(path)
    assert_same(path)


def test_what_is_unusual_is_left_to_pydicom(tmp_path, patient):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1))
    whole = path.read_bytes()
    assert parse_plain_header(whole) is not None
    assert parse_plain_header(whole[132:]) is None
    assert parse_plain_header(whole.replace(b"(\x00\x10\x00US", b"(\x00\x10\x00SS")) is None
    assert parse_plain_header(whole.replace(b"patient-7", b"patient\xe4\xf67")) is None
    assert all(parse_plain_header(whole[:length]) is None for length in range(0, whole.index(b"\xe0\x7f\x10\x00"), 7))
    ds = pydicom.dcmread(path)
    ds.ReferencedStudySequence = Sequence([pydicom.Dataset()])
    ds["ReferencedStudySequence"].is_undefined_length = True
    ds.save_as(path)
    assert read_plain_header(path) is None


@pytest.mark.realdata
def test_real_headers_are_the_same(real_data):
    checked = 0
    for path in sorted((real_data / "dicom").rglob("*")):
        if path.is_file() and "truncated" not in path.parts and path.suffix != ".csv" and read_plain_header(path):
            assert_same(path)
            checked += 1
    assert checked > 20
