"""Checks what a compressed frame claims about its own size before a decoder allocates anything for it."""

import struct

from pydicom import uid

MAX_SLICE_PIXELS = 4096 * 4096
"""Largest slice taken on; CT matrices end at 2048 x 2048."""

_RLE_MOST_BYTES = 64
_RLE_LEAST_SHARE = 1.5
_RLE_HEADER_BYTES = 64
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_J2K_START = b"\xff\x4f\xff\x51"
_SEGMENTLESS = {0x01, *range(0xD0, 0xD9)}
_FRAME_STARTS = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def refuse_other_size(frame: bytes, syntax: uid.UID, shape: tuple[int, int], bits_allocated: int) -> None:
    """Refuse a frame that can't decode to one grey slice of `shape`.

    Args:
        frame: One encapsulated frame, its fragments joined.
        syntax: Transfer syntax.
        shape: Rows and columns that the header promises.
        bits_allocated: Bits of one stored value.

    Raises:
        ValueError: With what is wrong, in words that hold nothing but numbers.
    """
    rows, columns = shape
    if syntax == uid.RLELossless:
        size = rows * columns * bits_allocated // 8
        if size > _RLE_MOST_BYTES * len(frame):
            raise ValueError(f"cut short: {len(frame)} bytes of RLE can't hold {rows} x {columns} pixels")
        if len(frame) > _RLE_LEAST_SHARE * size + 4 * _RLE_HEADER_BYTES:
            raise ValueError(f"{len(frame)} bytes of RLE are too many for {rows} x {columns} pixels")
        return
    is_j2k = syntax in uid.JPEG2000TransferSyntaxes
    claimed = _j2k_size(frame) if is_j2k else _jpeg_size(frame)
    if claimed != (rows, columns, 1):
        raise ValueError(f"pixels of {claimed[0]} x {claimed[1]} x {claimed[2]} in place of {rows} x {columns} x 1")


def _j2k_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and components from the SIZ segment (ISO/IEC 15444-1 A.5.1)."""
    start = 0
    if frame.startswith(_JP2_SIGNATURE):
        start = frame.find(_J2K_START)
    if start < 0 or frame[start : start + 4] != _J2K_START or len(frame) < start + 42:
        raise ValueError("cut short or no JPEG 2000 codestream")
    width, height, left, top = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    return height - top, width - left, components


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and components from the frame header of JPEG and JPEG-LS (ISO/IEC 10918-1 B.2.2)."""
    if frame[:2] != b"\xff\xd8":
        raise ValueError("cut short or no JPEG codestream")
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _FRAME_STARTS:
            height, width, components = struct.unpack_from(">HHB", frame, place + 5)
            return height, width, components
        if marker == 0xFF:
            place += 1
        elif marker in _SEGMENTLESS:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    raise ValueError("cut short: a JPEG codestream without a frame header")
