"""Every way to store a value, read back; and files that promise what they can't hold."""

import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import HEADER_BYTES, MAX_INFLATED_BYTES, open_dicom
from voco2d.io.dicom_pixels import PixelFile, read_slice_hu

SYNTAXES = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg-ls": uid.JPEGLSLossless,
    "jpeg-2000": uid.JPEG2000Lossless,
}
FORMATS = {
    "unsigned 8": (False, 8, 8),
    "unsigned 12": (False, 12, 16),
    "signed 12": (True, 12, 16),
    "signed 13": (True, 13, 16),
    "unsigned 16": (False, 16, 16),
    "signed 16": (True, 16, 16),
}


def values(signed: bool, bits: int, shape=(64, 70)) -> np.ndarray:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    noise = np.random.default_rng(bits).integers(low, high, shape)
    noise[0, :2] = low, high - 1
    return noise


def write(path, patient, stored, name, signed, bits, allocated, tags=None):
    spec = patient.Spec(signed=signed, bits=bits, intercept=-8, tags=tags or {})
    patient.write_slice(path, stored.astype(np.int64) % 2**16, spec.but(signed=False), np.zeros(3), 1)
    ds = pydicom.dcmread(path)
    ds.PixelRepresentation, ds.BitsAllocated = int(signed), allocated
    words = (stored % 2**allocated).astype(f"<u{allocated // 8}")
    ds.PixelData = words.tobytes()
    ds["PixelData"].VR = "OW"
    syntax = SYNTAXES[name]
    if syntax.is_encapsulated:
        ds.compress(syntax)
    elif name == "big":
        ds.PixelData = words.byteswap().tobytes() if allocated == 16 else words.view("<u2").byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, ds, implicit_vr=name == "implicit", little_endian=name != "big")
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", SYNTAXES)
def test_every_syntax_gives_every_kind_of_value_back(tmp_path, patient, name, kind):
    signed, bits, allocated = FORMATS[kind]
    stored = values(signed, bits)
    path = write(tmp_path / "a", patient, stored, name, signed, bits, allocated)
    assert np.array_equal(read_slice_hu(path), np.clip(stored - 8, -32768, 32767))


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_high_bit_are_no_part_of_the_value(tmp_path, patient, signed, rle):
    stored = values(signed, 12)
    garbage = (stored % 2**12) + 2**12 * np.random.default_rng(0).integers(0, 16, stored.shape)
    spec = patient.Spec(signed=False, bits=16, rle=rle)
    patient.write_slice(tmp_path / "a", garbage, spec, np.zeros(3), 1)
    ds = pydicom.dcmread(tmp_path / "a")
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = int(signed), 12, 11
    ds.save_as(tmp_path / "a")
    assert np.array_equal(read_slice_hu(tmp_path / "a"), stored)


def test_values_stored_in_the_upper_bits_are_shifted_down(tmp_path, patient):
    stored = values(True, 12)
    patient.write_slice(tmp_path / "a", (stored % 2**12) * 16 + 5, patient.Spec(signed=False), np.zeros(3), 1)
    ds = pydicom.dcmread(tmp_path / "a")
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 12, 15
    ds.save_as(tmp_path / "a")
    assert np.array_equal(read_slice_hu(tmp_path / "a"), stored)


def padded_slice(value: int) -> np.ndarray:
    stored = np.full((16, 16), 40)
    rows, columns = np.indices(stored.shape) - 7.5
    stored[np.hypot(rows, columns) > 8] = value
    return stored


@pytest.mark.parametrize(
    ("value", "tags", "padded"),
    [
        (0, {"PixelPaddingValue": 0}, True),
        (-2000, {"PixelPaddingValue": -2000}, False),
        (7, {"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 9}, True),
    ],
)
def test_padding_becomes_air_and_counts_where_it_was_none(tmp_path, patient, value, tags, padded):
    patient.write_slice(tmp_path / "a", padded_slice(value), patient.Spec(tags=tags), np.zeros(3), 1)
    with PixelFile(tmp_path / "a") as file:
        pixels, exact = file.slice_pixels(), file.hu()
    assert np.array_equal(exact, padded_slice(value))
    assert (pixels.hu[0, 0], pixels.hu[8, 8]) == (-1024, 40)
    assert (pixels.padded > 0) == padded


def test_padding_value_inside_the_body_punches_no_holes(tmp_path, patient):
    stored = padded_slice(-1000)
    stored[8, 8] = 0
    patient.write_slice(tmp_path / "a", stored, patient.Spec(tags={"PixelPaddingValue": 0}), np.zeros(3), 1)
    with PixelFile(tmp_path / "a") as file:
        assert file.slice_pixels().hu[8, 8] == 0


def test_inversion_is_told(tmp_path, patient):
    stored = np.full((8, 8), 24)
    stored[3:5, 3:5] = 1074
    tags = {"PhotometricInterpretation": "MONOCHROME1"}
    spec = patient.Spec(signed=False, bits=12, intercept=-1024, tags=tags)
    patient.write_slice(tmp_path / "a", 4095 - stored, spec, np.zeros(3), 1)
    with PixelFile(tmp_path / "a") as file:
        assert file.slice_pixels().inverted


@pytest.mark.parametrize("name", ["rle", "jpeg-ls", "jpeg-2000"])
def test_a_compressed_frame_of_another_size_is_refused_before_it_is_decoded(tmp_path, patient, name):
    path = write(tmp_path / "a", patient, values(False, 12), name, False, 12, 16)
    ds = pydicom.dcmread(path)
    frame = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    if name == "rle":
        ds.Rows = ds.Columns = 4000
    elif name == "jpeg-ls":
        place = frame.index(b"\xff\xf7")
        frame[place + 5 : place + 9] = struct.pack(">HH", 60000, 60000)
    else:
        frame[8:16] = struct.pack(">LL", 60000, 60000)
    ds.PixelData = encapsulate([bytes(frame)])
    ds.save_as(path)
    tracemalloc.start()
    with pytest.raises(ReadError, match="damaged or cut short"):
        read_slice_hu(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("tags", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 100_000}, {"Rows": 4000}])
def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path, patient, tags):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1, tags=tags))
    with pytest.raises(ReadError, match="cut short"):
        read_slice_hu(path, 0)


def test_rle_that_is_far_too_long_is_refused(tmp_path, patient):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1, rle=True))
    ds = pydicom.dcmread(path)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([frame + b"\x81\x00" * 200_000])
    ds.save_as(path)
    with pytest.raises(ReadError, match="damaged or cut short"):
        read_slice_hu(path)


def deflated_bomb(path, patient, size: int):
    write(path, patient, values(False, 12), "deflated", False, 12, 16)
    whole = path.read_bytes()
    start = 144 + struct.unpack("<L", whole[140:144])[0]
    plain = zlib.decompress(whole[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(plain), *(packer.compress(bytes(2**20)) for _ in range(size // 2**20)), packer.flush()]
    path.write_bytes(whole[:start] + b"".join(parts))


def test_a_deflated_file_that_grows_without_end_is_refused(tmp_path, patient):
    deflated_bomb(tmp_path / "a", patient, MAX_INFLATED_BYTES + 2**20)
    assert (tmp_path / "a").stat().st_size < 2**20
    with pytest.raises(ReadError, match="grow beyond"):
        read_slice_hu(tmp_path / "a")
    with open_dicom(tmp_path / "a", header_only=True) as header:
        assert len(header.read()) <= HEADER_BYTES + 1


def test_rescale_that_makes_no_numbers_is_refused(tmp_path, patient):
    (path,) = patient.write_series(tmp_path, patient.Spec(slices=1))
    ds = pydicom.dcmread(path)
    ds.RescaleSlope = 0
    ds.save_as(path)
    with pytest.raises(ReadError, match="rescale slope 0 and intercept 0 make no Hounsfield units"):
        read_slice_hu(path)


def test_frames_are_read_one_by_one(tmp_path, patient):
    stack = np.arange(3 * 8 * 10).reshape(3, 8, 10)
    patient.write_slice(tmp_path / "a", stack[0], patient.Spec(), np.zeros(3), 1)
    ds = pydicom.dcmread(tmp_path / "a")
    ds.NumberOfFrames, ds.PixelData = 3, stack.astype("<i2").tobytes()
    ds.save_as(tmp_path / "a")
    with PixelFile(tmp_path / "a") as file:
        assert all(np.array_equal(file.hu(frame), stack[frame]) for frame in (2, 0, 1))
        with pytest.raises(ReadError):
            file.hu(3)
    with pytest.raises(ReadError, match="multi-frame"):
        read_slice_hu(tmp_path / "a")
