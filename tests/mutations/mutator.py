"""Damages one file of a case in one of many ways, drawn by a seeded generator."""

import struct
from collections.abc import Callable

import mutate_arrays
import mutate_codestream
import mutate_dicom
import mutate_folder
from corpus import Entry, Files, Sparse
from draw import Draw, flip

_FOREIGN = (
    b"<html><body>hello</body></html>",
    b"PK\x03\x04" + bytes(200),
    b"%PDF-1.7\n" + bytes(300),
    b"GIF89a",
    b"\x00",
    b"",
)
_CANT_BE_DONE = (ValueError, TypeError, AttributeError, OverflowError, struct.error, KeyError, IndexError)


def mutate(files: Files, draw: Draw) -> tuple[Files, str, str]:
    """Damage one file.

    Returns:
        The files, the name of the damaged one, and what was done.
    """
    name = str(draw.choice(sorted(files)))
    data = files[name]
    assert isinstance(data, bytes)
    ways = [*ANY_FILE, *mutate_folder.WAYS]
    for suffix, more in BY_SUFFIX.items():
        ways += more if name.endswith(suffix) else ()
    way = ways[int(draw.integers(len(ways)))]
    if way in mutate_folder.WAYS:
        return way(files, name, draw), name, way.__name__
    try:
        changed = way(data, draw)
    except _CANT_BE_DONE:
        changed = truncate(data, draw)  # this value can't be written at all
    return {**files, name: changed}, name, way.__name__


def truncate(data: bytes, draw: Draw) -> bytes:
    return data[: int(draw.integers(0, len(data)))]


def truncate_a_little(data: bytes, draw: Draw) -> bytes:
    return data[: -int(draw.integers(1, 40))]


def flip_bytes(data: bytes, draw: Draw) -> bytes:
    return flip(data, draw, 0, len(data))


def flip_header(data: bytes, draw: Draw) -> bytes:
    return flip(data, draw, 0, min(len(data), 700))


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
    return _FOREIGN[int(draw.integers(len(_FOREIGN)))]


def append_rubbish(data: bytes, draw: Draw) -> bytes:
    return data + draw.bytes(int(draw.integers(1, 3000)))


def followed_by_terabytes(data: bytes, draw: Draw) -> Entry:
    """The file itself, then zeros that take no room on the disk."""
    return Sparse(data, int(draw.choice((3 * 2**30, 2**40))))


ANY_FILE: tuple[Callable[[bytes, Draw], Entry], ...] = (
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
    followed_by_terabytes,
)
BY_SUFFIX = {
    ".dcm": (*mutate_dicom.WAYS, *mutate_codestream.WAYS),
    ".gz": mutate_arrays.GZIP,
    ".nii": mutate_arrays.NIFTI,
    ".npy": mutate_arrays.NUMPY,
    ".mha": mutate_arrays.TEXT,
    ".nrrd": mutate_arrays.TEXT,
    ".json": mutate_arrays.JSON,
    ".csv": mutate_arrays.CSV,
}
