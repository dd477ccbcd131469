"""Reads files with other code than ours: pydicom and NumPy, nibabel, or the bytes after a text header."""

import functools
import gzip
import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pydicom
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from pydicom.encaps import get_frame

from corpus import SHAPE, Entry

_MOST_VALUES = 10**7
_NO_SOUND_FILE = 100_000


@dataclass(frozen=True)
class PlainSlice:
    """One DICOM slice: int16 HU of at least -1024, its height in mm, and its orientation as text."""

    hu: np.ndarray
    height_mm: float
    orientation: str


@dataclass(frozen=True)
class PlainArray:
    """A volume as it is stored, int16 HU of at least -1024, and the same with axes I, P, L; the header's geometry."""

    stored: np.ndarray
    turned: np.ndarray
    geometry: bytes


def plain_slices(data: Entry) -> list[PlainSlice]:
    """Slices of a DICOM file; none where a plain reading fails."""
    return _quiet(_slices, data) or []


def plain_array(name: str, data: Entry) -> PlainArray | None:
    """The volume in a file of any other kind; None where a plain reading fails."""
    return _quiet(functools.partial(_array, name), data)


@functools.cache
def sound_slices(data: bytes) -> list[PlainSlice]:
    """As `plain_slices`, but remembered."""
    return plain_slices(data)


def _quiet(read, data):  # type: ignore[no-untyped-def]
    if not isinstance(data, bytes):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(data)
        except BaseException as error:  # whatever a library thinks of it; a panic of PyO3 is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            return None


def _slices(data: bytes) -> list[PlainSlice]:
    if len(data) > _NO_SOUND_FILE and b"1.2.840.10008.1.2.1.99" in data[:600]:
        return []  # a bomb that a plain reading would inflate
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    shared = (ds.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit = ds.original_encoding[0]
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else "1.2.840.10008.1.2.1"
    if int(ds.Rows) * int(ds.Columns) * frames > _MOST_VALUES * 2:
        return []
    if _has_other_size(ds):
        return []  # libraries would allocate whatever the codestream says
    scale = ds if shared is None else shared.PixelValueTransformationSequence[0]
    slope, intercept = (1.0 if scale.get("RescaleSlope") is None else float(scale.RescaleSlope)), 0.0
    if scale.get("RescaleIntercept") not in (None, ""):
        intercept = float(scale.RescaleIntercept)
    values = _as_hu(ds.pixel_array.astype(np.float64) * slope + intercept)
    slices = []
    for number, plane in enumerate(values.reshape(-1, *values.shape[-2:])):
        own = ds if shared is None else ds.PerFrameFunctionalGroupsSequence[number].PlanePositionSequence[0]
        turn = ds if shared is None else shared.PlaneOrientationSequence[0]
        try:
            height = float(own.ImagePositionPatient[2])
            orientation = ",".join(f"{float(value):.6g}" for value in turn.ImageOrientationPatient)
        except (TypeError, ValueError, AttributeError, IndexError):
            height, orientation = float("nan"), ""
        slices.append(PlainSlice(plane, height, orientation))
    return slices


def _has_other_size(ds: pydicom.Dataset) -> bool:
    """Whether a JPEG or JPEG 2000 codestream of one frame says another size than the header."""
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == pydicom.uid.RLELossless:
        return False
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    if (j2k := frame.find(b"\xff\x4f\xff\x51")) >= 0:
        width, height, left, top = struct.unpack_from(">4L", frame, j2k + 8)
        return (height - top, width - left) != (ds.Rows, ds.Columns)
    starts = [at for mark in (b"\xc0", b"\xc1", b"\xc3", b"\xf7") if (at := frame.find(b"\xff" + mark + b"\0")) >= 0]
    return not starts or struct.unpack_from(">HH", frame, min(starts) + 5) != (ds.Rows, ds.Columns)


def _array(name: str, data: bytes) -> PlainArray | None:
    if ".nii" in name:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MOST_VALUES * 4) if name.endswith(".gz") else data
        image = nib.Nifti1Image.from_bytes(plain)
        if np.prod(image.shape, dtype=object) > _MOST_VALUES:
            return None
        stored = _as_hu(np.asarray(image.dataobj, np.float64))
        stored = stored.reshape(stored.shape[:3])
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(("I", "P", "L")))
        has_geometry = image.header["qform_code"] > 0 or image.header["sform_code"] > 0
        geometry = image.affine.tobytes() + bytes([bool(has_geometry)])
        return PlainArray(stored, apply_orientation(stored, turn), geometry)
    if name.endswith(".npy"):
        stored = _as_hu(np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64))
        return PlainArray(stored, stored, b"") if stored.ndim == 3 else None
    count = 2 * SHAPE[0] * SHAPE[1] * SHAPE[2]
    start = data.find(b"LOCAL\n") + 6 if name.endswith(".mha") else data.find(b"\n\n") + 2
    head, body = data[:start], data[start:]
    if b"CompressedData = True" in head:
        body = zlib.decompress(body)
    elif b"encoding: gzip" in head:
        body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(count)
    stored = _as_hu(np.frombuffer(body[:count], "<i2").reshape(SHAPE).astype(np.float64))
    return PlainArray(stored, stored[::-1], head)


def _as_hu(values: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(np.rint(values)), -1024, 32767).astype(np.int16)
