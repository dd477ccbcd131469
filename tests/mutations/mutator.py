"""Damages files in one of many ways, drawn by a seeded generator."""

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from corpus import Files

Draw = np.random.Generator
HOSTILE_IDS = ("../../etc/x", "con", "a\nb", "x" * 10_000, "a\\..\\b", "🙂", "<script>alert(1)</script>", "%s%n", " ")
FOREIGN = (
    b"<html><body>hello</body></html>",
    b"PK\x03\x04" + bytes(200),
    b"%PDF-1.7\n" + bytes(300),
    b"GIF89a",
    b"\x00",
)
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
NUMBERS = (0, 1, 2, 7, 255, 4096, 60_000, 65_535)
DECIMALS = ("0", "-1", "1e30", "-1e30", "1e-30", "nan", "inf", "abc", "", "60000", "0.001", "-32768")


def mutate(files: Files, draw: Draw) -> tuple[Files, str, str]:
    """Damage one file.

    Returns:
        The files, the name of the damaged one, and what was done.
    """
    name = str(draw.choice(sorted(files)))
    ways = [*ANY_FILE, *(DICOM if name.endswith(".dcm") else ()), *(GZIP if name.endswith(".gz") else ())]
    ways += TEXT if name.endswith((".mha", ".nrrd", ".json")) else ()
    ways += HEADER if name.endswith((".nii", ".npy")) else ()
    way = ways[int(draw.integers(len(ways)))]
    try:
        changed = way(files[name], draw)
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error, KeyError):
        changed = truncate(files[name], draw)  # this value can't be written at all
    return {**files, name: changed}, name, way.__name__


def truncate(data: bytes, draw: Draw) -> bytes:
    return data[: int(draw.integers(0, len(data)))]


def truncate_a_little(data: bytes, draw: Draw) -> bytes:
    return data[: -int(draw.integers(1, 40))]


def flip_bytes(data: bytes, draw: Draw) -> bytes:
    return _flip(data, draw, 0, len(data))


def flip_header(data: bytes, draw: Draw) -> bytes:
    return _flip(data, draw, 0, min(len(data), 700))


def swap_chunks(data: bytes, draw: Draw) -> bytes:
    a, b, c = sorted(int(cut) for cut in draw.integers(0, len(data), 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def repeat_chunk(data: bytes, draw: Draw) -> bytes:
    a, b = sorted(int(cut) for cut in draw.integers(0, len(data), 2))
    return data[:b] + data[a:b] + data[b:]


def zero_chunk(data: bytes, draw: Draw) -> bytes:
    a, b = sorted(int(cut) for cut in draw.integers(0, len(data), 2))
    return data[:a] + bytes(b - a) + data[b:]


def garbage(data: bytes, draw: Draw) -> bytes:
    return draw.bytes(len(data))


def foreign(_: bytes, draw: Draw) -> bytes:
    return FOREIGN[int(draw.integers(len(FOREIGN)))]


def append_rubbish(data: bytes, draw: Draw) -> bytes:
    return data + draw.bytes(int(draw.integers(1, 3000)))


def remove_tag(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        delattr(ds, _tag(ds, draw, TAGS))

    return _edited(data, change)


def empty_tag(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        ds[_tag(ds, draw, TAGS)].value = None

    return _edited(data, change)


def lie_about_size(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        setattr(ds, str(draw.choice(SIZES)), int(draw.choice(NUMBERS)))

    return _edited(data, change)


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

    return _edited(data, change)


def hostile_id(data: bytes, draw: Draw) -> bytes:
    def change(ds: pydicom.Dataset) -> None:
        tag = str(draw.choice(("PatientID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SOPClassUID")))
        with pydicom.config.disable_value_validation():
            setattr(ds, tag, HOSTILE_IDS[int(draw.integers(len(HOSTILE_IDS)))])

    return _edited(data, change)


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

    return _edited(data, change)


def wrong_syntax(data: bytes, draw: Draw) -> bytes:
    uids = [b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2\0\0\0", b"1.2.840.10008.1.9.9\0"]
    new = uids[int(draw.integers(len(uids)))]
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


def gzip_bomb(data: bytes, draw: Draw) -> bytes:
    plain = bytearray(gzip.decompress(data))
    side = int(draw.choice((600, 1200, 2000, 32_000)))
    struct.pack_into("<4h", plain, 40, 3, side, side, min(side, 1200))
    return gzip.compress(bytes(plain) + bytes(2**24) * int(draw.integers(0, 8)), 1, mtime=0)


def gzip_edit(data: bytes, draw: Draw) -> bytes:
    return gzip.compress(flip_header(gzip.decompress(data), draw), mtime=0)


def lie_in_header(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    at = int(draw.choice((40, 42, 44, 46, 48, 70, 72, 108, 112, 116, 252, 254, 280, 296, 312)))
    struct.pack_into("<h", changed, at, int(draw.choice((-1, 0, 1, 2, 3, 16, 512, 20_000, 32_767))))
    return bytes(changed)


def lie_in_text(data: bytes, draw: Draw) -> bytes:
    words = [
        b"40 32 6",
        b"MET_SHORT",
        b"short",
        b"raw",
        b"1 0 0 0 1 0 0 0 1",
        b"1 1 3",
        b"(0,0,3)",
        b"little",
        b"hu",
        b"IPL",
    ]
    news = [
        b"60000 60000 9000",
        b"-1 4 4",
        b"double",
        b"gzip",
        b"0 0 0 0 0 0 0 0 0",
        b"nan 1 1",
        b"../../x",
        b"1e400",
        b"",
    ]
    here = [word for word in words if word in data]
    return data.replace(here[int(draw.integers(len(here)))], news[int(draw.integers(len(news)))], 1)


ANY_FILE: tuple[Callable[[bytes, Draw], bytes], ...] = (
    truncate,
    truncate_a_little,
    flip_bytes,
    flip_header,
    swap_chunks,
    repeat_chunk,
    zero_chunk,
    garbage,
    foreign,
    append_rubbish,
)
DICOM = (
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
GZIP = (gzip_bomb, gzip_edit)
HEADER = (lie_in_header,)
TEXT = (lie_in_text,)


@functools.cache
def _zeros() -> bytes:
    """16 MiB of zeros, deflated; a block that ends in a full flush can be repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)


def _flip(data: bytes, draw: Draw, start: int, stop: int) -> bytes:
    changed = bytearray(data)
    for at in draw.integers(start, stop, int(draw.choice((1, 2, 5, 40)))):
        changed[at] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def _tag(ds: pydicom.Dataset, draw: Draw, tags: tuple[str, ...]) -> str:
    return str(draw.choice([tag for tag in tags if tag in ds]))


def _edited(data: bytes, change: Callable[[pydicom.Dataset], None]) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(data))
    change(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()
