"""Reads NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK, the extra `itk`, into a `Volume`."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from voco2d.errors import ReadError
from voco2d.io.array_volume import FileIds, array_volume
from voco2d.io.hounsfield import guess_hounsfield
from voco2d.io.metaimage_deflate import refuse_damaged_stream
from voco2d.io.orientation import Affine
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import MAX_VOXELS, Volume

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Ends of the names of the files read here."""

_MAX_RATIO = 1040
"""What deflate can make of a byte, at most."""

_HEADER_BYTES = 65_536
_LONGEST_FIELD = 300  # ITK 5.4 dies of a line of 1,000 bytes that is no field
_ENCODING = re.compile(rb"^encoding:[ \t]*(\w+)", re.IGNORECASE | re.MULTILINE)
_COMPRESSED = re.compile(rb"^[ \t]*CompressedData[ \t]*=[ \t]*[t1]", re.IGNORECASE | re.MULTILINE)
_TEXT = re.compile(rb"^[ \t]*BinaryData[ \t]*=[ \t]*[f0]", re.IGNORECASE | re.MULTILINE)
_DATA_FILE = re.compile(rb"^[ \t]*(?:data ?file[ \t]*:|elementdatafile[ \t]*=)([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def detached_data(path: Path) -> Path | None:
    """File beside a header that holds its voxels; `None` where they are in the same file.

    Raises:
        ReadError: The header names a file elsewhere, a list or pattern of files, or one that is not there. Headers
            come from strangers, and ITK would open whatever they name.
    """
    name = _named_data(path)
    if name is None or name.upper() == "LOCAL":
        return None
    beside = path.parent / name
    if Path(name).name != name or not beside.is_file() or beside.is_symlink():
        raise ReadError(path, "its voxels lie in a file that is missing, elsewhere, or one of several; join them")
    return beside


def _named_data(path: Path) -> str | None:
    found = _DATA_FILE.search(_header(path))
    return None if found is None else found.group(1).decode("utf-8", "replace").strip()


def _header(path: Path) -> bytes:
    """The text before the voxels, as far as it matters."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})") from error
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        head = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
        fields = [line for line in head.split(b"\n") if not line.startswith(b"#") and b":=" not in line]
        if len(head) == _HEADER_BYTES or max(map(len, fields), default=0) > _LONGEST_FIELD:
            raise ReadError(path, "its header has no end or a line that is too long, so it is damaged")
        return head
    last = _DATA_FILE.search(start)
    return start if last is None else start[: last.end()]


def _fewest_bytes(path: Path, voxels: int, voxel_bytes: int) -> int:
    """Fewest bytes that so many voxels take in a file, as its header says they are stored."""
    header = _header(path)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        encoding = _ENCODING.search(header)
        word = b"" if encoding is None else encoding.group(1).lower()
        is_raw, is_text = word == b"raw", word in (b"txt", b"text", b"ascii", b"hex")
    else:
        is_text = _TEXT.search(header) is not None
        is_raw = not is_text and _COMPRESSED.search(header) is None
    if is_raw:
        return voxels * voxel_bytes
    return voxels if is_text else voxels * voxel_bytes // _MAX_RATIO


def read_itk(source: Source, args: ReadArgs) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read the single image of `source`; its direction, spacing and origin are LPS as ITK defines them.

    Returns:
        The volume, and no rejections.

    Raises:
        ReadError: When SimpleITK is missing, the file is damaged, holds no three axes of one number a voxel, promises
            more than it can hold, or its values are not Hounsfield units.
    """
    path = source.files[0]
    try:
        itk: Any = importlib.import_module("SimpleITK")
    except ImportError as error:
        raise ReadError(path, 'NRRD and MetaImage need SimpleITK; pip install "voco2d[itk]"') from error
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings go to the terminal and quote header values
    array, affine = _load(itk, path)
    volume = array_volume(
        array,
        affine,
        source,
        args,
        to_hounsfield=lambda turned: guess_hounsfield(turned, path, args.windowed_hu),
        ids=FileIds(patient=path.stem, series=path.stem),
    )
    return volume, ()


def _load(itk: Any, path: Path) -> tuple[Shaped[np.ndarray, "a b c"], Affine]:
    """Read the header, hold its promises against the file, then read the voxels; axes in ITK's order reversed."""
    data = detached_data(path) or path
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _refuse_size(itk, reader, path, data)
        refuse_damaged_stream(path, data, 8 * int(np.prod(reader.GetSize(), dtype=object)))
        affine = _affine(reader, path)
        array = itk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, MemoryError, ValueError, OverflowError, OSError) as error:
        raise ReadError(path, "image damaged, cut short or not what its name says") from error
    return array.reshape(array.shape[-3:]), affine


def _refuse_size(itk: Any, reader: Any, path: Path, data: Path) -> None:
    sizes = [int(size) for size in reader.GetSize()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3 or reader.GetNumberOfComponents() != 1:
        raise ReadError(path, "not one volume of one number a voxel; save each volume in a file of its own")
    voxels = sizes[0] * sizes[1] * sizes[2]
    if min(sizes) < 1 or voxels > MAX_VOXELS:
        raise ReadError(path, f"the header promises {voxels} voxels, {MAX_VOXELS} are the limit")
    voxel_bytes = itk.GetArrayFromImage(itk.Image([1, 1, 1], reader.GetPixelID())).itemsize
    if _fewest_bytes(path, voxels, voxel_bytes) > data.stat().st_size:
        raise ReadError(path, f"cut short: the header promises {voxels} voxels, more than the file can hold")


def _affine(reader: Any, path: Path) -> Affine:
    """(4, 4) LPS map from (slowest, middle, fastest) index, as the array of ITK has its axes."""
    dimension = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    spacing, origin = np.array(reader.GetSpacing())[:3], np.array(reader.GetOrigin())[:3]
    affine = np.eye(4)
    affine[:3, :3] = (direction * spacing)[:, ::-1]
    affine[:3, 3] = origin
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ReadError(path, "direction and spacing in the header have no inverse, so the axes are unknown")
    return affine
