"""Ways to damage files of one volume, their text headers, sidecars, and lists and tables of paths."""

import csv
import gzip
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from corpus import Entry, Sparse
from draw import Draw, flip, pick

_LARGEST_SPARSE = 2**43
_WORDS = (
    b"40 32 6",
    b"MET_SHORT",
    b"short",
    b"raw",
    b"gzip",
    b"1 0 0 0 1 0 0 0 1",
    b"1 1 3",
    b"(0,0,3)",
    b"little",
    b"LOCAL",
    b"CompressedData = True",
)
_NEW_WORDS = (
    b"60000 60000 9000",
    b"40 32 2000000000",
    b"-1 4 4",
    b"double",
    b"gzip",
    b"bzip2",
    b"0 0 0 0 0 0 0 0 0",
    b"nan 1 1",
    b"../../x",
    b"/dev/zero",
    b"LIST",
    b"1e400",
    b"",
)
_JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\ud800",
    "a\0b.nii",
    "/dev/zero",
    "/etc/passwd",
    "../../x.nii.gz",
    "x" * 5000 + ".nii",
    "images",
    ".",
    "a\nb.nii",
    [],
    {},
    ["images/scan.npy"] * 1000,
    [0, 0, 0],
    ["1", "2", "3"],
    {"image": {"image": "x"}},
)
_CELLS = ("", " ", "/dev/zero", ".", "..", "x" * 5000, "x" * 200_000, "a\0b", "a\nb", '"', "=1+1", "../x.nii", "é")


def gzip_bomb(data: bytes, draw: Draw) -> bytes:
    plain = bytearray(gzip.decompress(data))
    side = int(draw.choice((600, 1200, 2000, 32_000)))
    struct.pack_into("<4h", plain, 40, 3, side, side, min(side, 1200))
    return gzip.compress(bytes(plain) + bytes(2**24) * int(draw.integers(0, 8)), 1, mtime=0)


def gzip_edit(data: bytes, draw: Draw) -> bytes:
    plain = gzip.decompress(data)
    return gzip.compress(flip(plain, draw, 0, min(len(plain), 700)), mtime=0)


def gzip_members(data: bytes, draw: Draw) -> bytes:
    """The same content in several members, with zeros between and after them: all of that is allowed."""
    plain = gzip.decompress(data)
    cut = int(draw.integers(0, len(plain)))
    parts = [gzip.compress(part, mtime=0) for part in (plain[:cut], plain[cut:])]
    return bytes(int(draw.integers(0, 50))).join([*parts, b""])


def lie_in_header(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    at = int(draw.choice((40, 42, 44, 46, 48, 70, 72, 108, 112, 116, 252, 254, 280, 296, 312)))
    struct.pack_into("<h", changed, at, int(draw.choice((-1, 0, 1, 2, 3, 16, 512, 20_000, 32_767))))
    return bytes(changed)


def npy_claims(data: bytes, draw: Draw) -> Entry:
    """Another shape or type in the header, of terabytes at times; now and then the file is truly that long."""
    shapes = ((10**6, 10**6, 1), (10**4, 10**4, 10**4), (2**31, 2**31, 2**31), (6, 32, 40), (6, -32, -40), (0, 32, 40))
    shape = pick((*shapes, (7680,), (6, 32, 40, 1), (10**30, 1, 1), (2**20, 2**11, 1)), draw)
    kind = pick(("<i2", ">i2", "<f8", "<f2", "|O", "|V100000", "<U9", "|b1", "<c16", "<M8[s]", "bad"), draw)
    buffer = io.BytesIO()
    head = {"descr": kind, "fortran_order": bool(draw.integers(2)), "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, head)
    start = buffer.getvalue() + data[128:]
    if draw.integers(2):
        size = int(np.prod(shape, dtype=object)) * 8
        return Sparse(start, min(max(size, len(start)), _LARGEST_SPARSE))
    return start


def lie_in_text(data: bytes, draw: Draw) -> bytes:
    here = [word for word in _WORDS if word in data[:1000]]
    return data.replace(pick(here, draw), pick(_NEW_WORDS, draw), 1)


def text_bomb(data: bytes, draw: Draw) -> bytes:
    """A header without an end, or whose compressed voxels grow without one."""
    more = (b"a" * 10**7, b"\n#" * 10**6, b"k:=v\n" * 10**6, b"Comment = x\n" * 10**6)
    at = data.find(b"\n") + 1
    return data[:at] + pick(more, draw) + data[at:]


def json_edit(data: bytes, draw: Draw) -> bytes:
    """Put something else in the place of a value, take a key away, or nest the whole."""
    tree = json.loads(data)
    what = int(draw.integers(4))
    if what == 0:
        return b'{"a":' * 100_000 + b"1" if draw.integers(2) else b"[" * 100_000
    spots = list(_spots(tree))
    holder, key = pick(spots, draw)
    if what == 1:
        del holder[key]
    else:
        holder[key] = pick(_JSON_VALUES, draw)
    return json.dumps(tree).encode()


def csv_edit(data: bytes, draw: Draw) -> bytes:
    """Put something else in a cell, take a column or the header away, repeat lines, or change the encoding."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    what = int(draw.integers(6))
    if what == 0:
        rows = [row[1:] for row in rows]
    elif what == 1:
        rows = rows[1:]
    elif what == 2:
        rows += rows[1:] * int(draw.choice((1, 1000)))
    elif what == 3:
        return data.decode().encode(pick(("utf-16", "utf-32", "utf-7"), draw))
    elif what == 4:
        return data.replace(b",", pick((b";", b"\t", b",,", b'",'), draw))
    else:
        rows[int(draw.integers(len(rows)))][0] = pick(_CELLS, draw)
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [spot for key in keys for spot in _spots(tree[key])]


Ways = tuple[Callable[[bytes, Draw], Entry], ...]
GZIP: Ways = (gzip_bomb, gzip_edit, gzip_members)
NIFTI: Ways = (lie_in_header,)
NUMPY: Ways = (lie_in_header, npy_claims, npy_claims)
TEXT: Ways = (lie_in_text, lie_in_text, text_bomb)
JSON: Ways = (json_edit, json_edit, json_edit)
CSV: Ways = (csv_edit, csv_edit, csv_edit)
