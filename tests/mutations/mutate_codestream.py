"""Ways to damage the compressed frames of a DICOM file."""

import functools
import struct
from collections.abc import Callable

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

from draw import NUMBERS, Draw, flip, pick
from mutate_dicom import edited


def codestream_size(data: bytes, draw: Draw) -> bytes:
    """Another size in the compressed frame itself, now and then in the header, too."""
    changed = bytearray(data)
    side = int(draw.choice(NUMBERS))
    j2k = data.find(b"\xff\x4f\xff\x51")
    frames = [at for marker in (b"\xff\xc0\0", b"\xff\xc3\0", b"\xff\xf7\0") if (at := data.find(marker)) >= 0]
    if j2k >= 0:
        # image, offset and tile sizes: ISO/IEC 15444-1 A.5.1
        place = int(draw.choice((8, 12, 16, 20, 24, 28, 32, 36)))
        struct.pack_into(">L", changed, j2k + place, int(draw.choice((side, 2**31, 2**32 - 1))))
    else:
        struct.pack_into(">H", changed, frames[0] + int(draw.choice((5, 7))), side)
    if draw.integers(3) == 0:
        return edited(bytes(changed), lambda ds: setattr(ds, str(draw.choice(("Rows", "Columns"))), side))
    return bytes(changed)


def codestream_fields(data: bytes, draw: Draw) -> bytes:
    """Flip bits in the first bytes of the compressed frame: precision, components, tables, levels."""
    starts = [data.find(mark) for mark in (b"\xff\x4f\xff\x51", b"\xff\xd8\xff", b"\xfe\xff\x00\xe0")]
    at = max(starts)
    if at < 0:
        raise ValueError("not compressed")
    return flip(data, draw, at, min(len(data), at + 120))


def fragments(data: bytes, draw: Draw) -> bytes:
    """Lie about the length of an item of the encapsulated pixels (PS3.5 A.4)."""
    pixels = data.rfind(b"\xe0\x7f\x10\x00")
    items = [at for at in range(pixels, len(data) - 8) if data[at : at + 4] == b"\xfe\xff\x00\xe0"]
    if not items or pixels < 0:
        raise ValueError("not compressed")
    changed = bytearray(data)
    struct.pack_into("<L", changed, pick(items, draw) + 4, int(draw.choice((0, 1, 3, 2**16, 2**31, 2**32 - 1))))
    return bytes(changed)


def rle_bomb(data: bytes, draw: Draw) -> bytes:
    """Runs of 128 equal bytes, of as many pixels as the header says or of others."""

    def change(ds: pydicom.Dataset) -> None:
        ds.Rows = ds.Columns = side = int(draw.choice((512, 4096, 16_000)))
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        runs = b"\x81\x00" * (int(draw.choice((1, 2, 5))) * min(side, 4096) ** 2 // 128)
        ds.PixelData = encapsulate([struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + runs * 2])
        ds.file_meta.TransferSyntaxUID = uid.RLELossless
        ds["PixelData"].VR = "OB"

    return edited(data, change)


def picture_bomb(data: bytes, draw: Draw) -> bytes:
    """A few hundred bytes that truly hold a black picture of 4096 x 4096 pixels."""
    syntax = pick((uid.JPEGLSLossless, uid.JPEG2000Lossless), draw)

    def change(ds: pydicom.Dataset) -> None:
        if draw.integers(2):
            ds.Rows = ds.Columns = 4096
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelData = encapsulate([_black(syntax)])
        ds.file_meta.TransferSyntaxUID = syntax
        ds["PixelData"].VR = "OB"

    return edited(data, change)


WAYS: tuple[Callable[[bytes, Draw], bytes], ...] = (
    codestream_size,
    codestream_fields,
    fragments,
    rle_bomb,
    picture_bomb,
)


@functools.cache
def _black(syntax: str) -> bytes:
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = uid.CTImageStorage, "1.2.3"
    ds.Rows = ds.Columns = 4096
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = np.zeros((4096, 4096), np.uint16).tobytes()
    ds.compress(syntax, generate_instance_uid=False)
    return pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
