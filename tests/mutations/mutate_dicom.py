"""Ways to damage the elements of a DICOM file."""

import functools
import io
import struct
import zlib
from collections.abc import Callable

import pydicom
from pydicom.uid import generate_uid

from draw import NUMBERS, Draw, pick

HOSTILE_IDS = ("../../etc/x", "con", "a\nb", "x" * 10_000, "a\\..\\b", "🙂", "<script>alert(1)</script>", "%s%n", " ")
SIZES = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "NumberOfFrames")
TAGS = (
    *SIZES,
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "Modality",
    "PatientID",
    "PixelData",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
)
DECIMALS = ("0", "-1", "1e30", "-1e30", "1e-30", "nan", "inf", "abc", "", "60000", "0.001", "-32768")


def remove_tag(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        delattr(ds, _tag(ds, draw, TAGS))

    return edited(data, change)


def empty_tag(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        ds[_tag(ds, draw, TAGS)].value = None

    return edited(data, change)


def lie_about_size(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        setattr(ds, str(draw.choice(SIZES)), int(draw.choice(NUMBERS)))

    return edited(data, change)


def absurd_decimal(data: bytes, draw: Draw) -> bytes:
    tags = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    tag = str(draw.choice(tags))
    old, new = getattr(pydicom.dcmread(io.BytesIO(data)), tag), str(draw.choice(DECIMALS))

    def change(ds: pydicom.Dataset) -> None:
        values = [new, *[str(value) for value in old[1:]]] if isinstance(old, pydicom.multival.MultiValue) else new
        element = ds[tag]
        with pydicom.config.disable_value_validation():
            ds._dict[element.tag] = pydicom.dataelem.RawDataElement(
                element.tag,
                "DS",
                0,
                ("\\".join(values) if isinstance(values, list) else values).encode(),
                0,
                False,
                True,
            )

    return edited(data, change)


def hostile_id(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        tag = str(draw.choice(("PatientID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SOPClassUID")))
        with pydicom.config.disable_value_validation():
            setattr(ds, tag, pick(HOSTILE_IDS, draw))

    return edited(data, change)


def other_kind(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        kind = int(draw.integers(5))
        if kind == 0:
            ds.PhotometricInterpretation = str(draw.choice(("MONOCHROME1", "RGB", "PALETTE COLOR")))
        elif kind == 1:
            ds.ImageType = ["DERIVED", "SECONDARY", str(draw.choice(("LOCALIZER", "MIP", "SCREEN SAVE")))]
        elif kind == 2:
            ds.PixelPaddingValue = int(draw.integers(0, 4000))
        elif kind == 3:
            ds.AcquisitionNumber = int(draw.integers(1, 3))
        else:
            ds.SOPInstanceUID = generate_uid(entropy_srcs=["x"])

    return edited(data, change)


def wrong_syntax(data: bytes, draw: Draw) -> bytes:
    uids = [b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2\0\0\0", b"1.2.840.10008.1.9.9\0"]
    new = pick(uids, draw)
    for old in uids:
        data = data.replace(old, new, 1)
    return data


def deep_sequences(data: bytes, draw: Draw) -> bytes:
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * int(draw.integers(50, 3000))
    at = data.find(b"\x10\x00\x10\x00", 132, 1500)
    if at < 0:
        raise ValueError("no such element")
    return data[:at] + nested + data[at:]


def deflate_bomb(data: bytes, draw: Draw) -> bytes:
    block = _zeros()
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    start = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    head = zlib.compressobj(9, wbits=-15)
    first = head.compress(start if draw.integers(2) else data[132:]) + head.flush(zlib.Z_FULL_FLUSH)
    return (
        bytes(128)
        + b"DICM"
        + b"\x02\x00\x00\x00UL\x04\x00"
        + struct.pack("<I", len(meta))
        + meta
        + first
        + block * int(draw.integers(10, 200))
    )


WAYS: tuple[Callable[[bytes, Draw], bytes], ...] = (
    remove_tag,
    empty_tag,
    lie_about_size,
    absurd_decimal,
    hostile_id,
    other_kind,
    wrong_syntax,
    deep_sequences,
    deflate_bomb,
)


@functools.cache
def _zeros() -> bytes:
    """16 MiB of zeros, deflated; a block that ends in a full flush can be repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)


def _tag(ds: pydicom.Dataset, draw: Draw, tags: tuple[str, ...]) -> str:
    return str(draw.choice([tag for tag in tags if tag in ds]))


def edited(data: bytes, change: Callable[[pydicom.Dataset], None]) -> bytes:
    """Change the elements of a file and write it again."""
    ds = pydicom.dcmread(io.BytesIO(data))
    change(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()
