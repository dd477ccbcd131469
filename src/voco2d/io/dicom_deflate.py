"""Opens DICOM files for reading, deflated ones (PS3.5 A.5) with a limit on what they may grow to."""

import struct
import zlib
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TypeAlias

from voco2d.errors import ReadError

OpenDicom: TypeAlias = BufferedReader | BytesIO

MAX_INFLATED_BYTES = 128 * 2**20
"""A deflated file that holds more is refused: a small file can otherwise fill any memory."""

HEADER_BYTES = 4 * 2**20
"""Enough for whatever comes before the pixels."""

_NO_HEADER = bytes(2**16)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_START = 132
_GROUP_LENGTH = struct.Struct("<HH2sHL")


def open_dicom(path: Path, header_only: bool = False) -> OpenDicom:
    """Open a file so that pydicom can parse it without inflating anything itself.

    Args:
        path: Any file.
        header_only: Only what comes before the pixels is needed; of a deflated file no more is inflated.

    Returns:
        The open file, or for a deflated one its inflated data set in memory: explicit VR, little endian, without
        preamble and meta header. The caller closes it.

    Raises:
        ReadError: When a deflated file grows beyond `MAX_INFLATED_BYTES` or has a damaged meta header.
        OSError: When it can't be opened.
    """
    file = path.open("rb")
    try:
        start = file.read(_META_START + 1024)
        if not _is_deflated(start):
            file.seek(0)
            return file
        _, _, _, _, length = _GROUP_LENGTH.unpack_from(start, _META_START)
        file.seek(_META_START + _GROUP_LENGTH.size + length)
        return _inflated(file, path, header_only)
    except BaseException:
        file.close()
        raise


def _is_deflated(start: bytes) -> bool:
    if start[128:132] != b"DICM" or _DEFLATED not in start:
        return False
    group, element, vr, size, length = _GROUP_LENGTH.unpack_from(start, _META_START)
    if (group, element, vr, size) != (2, 0, b"UL", 4):
        return False
    meta = start[_META_START : _META_START + _GROUP_LENGTH.size + length]
    syntax = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(_DEFLATED))
    return syntax + _DEFLATED in meta


def _inflated(file: BufferedReader, path: Path, header_only: bool) -> BytesIO:
    limit = HEADER_BYTES if header_only else MAX_INFLATED_BYTES
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    size = 0
    with file:
        while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(2**16)):
            parts.append(inflater.decompress(chunk, limit + 1 - size))
            size += len(parts[-1])
            if size > limit:
                break
    if size > limit and not header_only:
        raise ReadError(path, f"deflated data grow beyond {MAX_INFLATED_BYTES} bytes; the file is damaged or no CT")
    data = b"".join(parts)
    if header_only and (empty := data.find(_NO_HEADER)) >= 0:
        data = data[:empty]  # pydicom would parse millions of empty elements one by one
    return BytesIO(data)
