"""Checks the compressed voxels of MetaImage files, since ITK passes over damage in them without a word."""

import re
import zlib
from pathlib import Path

_HEADER_BYTES = 65_536
_PIECE_BYTES = 2**20
_IS_COMPRESSED = re.compile(rb"^[ \t]*CompressedData[ \t]*=[ \t]*(?:true|1)", re.IGNORECASE | re.MULTILINE)
_LAST_LINE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*\n", re.IGNORECASE | re.MULTILINE)


def refuse_damaged_stream(path: Path, data: Path, most_bytes: int) -> None:
    """Inflate the voxels once, keeping nothing; files of other formats and without compression are left alone.

    Args:
        path: The header, .mha or .mhd.
        data: The file that holds the voxels; `path` itself where they follow the header.
        most_bytes: What the header promises at most; no more is inflated.

    Raises:
        ValueError: The stream is cut short, or its checksum tells of damage.
        OSError: The file can't be read.
    """
    if path.suffix.lower() not in (".mha", ".mhd"):
        return
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    last = _LAST_LINE.search(start)
    if last is None or _IS_COMPRESSED.search(start[: last.end()]) is None:
        return
    inflater, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with data.open("rb") as file:
        file.seek(last.end() if data == path else 0)
        while not inflater.eof and size <= most_bytes:
            piece = inflater.unconsumed_tail or file.read(_PIECE_BYTES)
            if not piece:
                raise ValueError("the compressed voxels are cut short")
            try:
                size += len(inflater.decompress(piece, _PIECE_BYTES))
            except zlib.error as error:
                raise ValueError("the compressed voxels are damaged") from error
