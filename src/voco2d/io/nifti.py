"""Reads one NIfTI file (.nii, .nii.gz) into a `Volume`.

The header's RAS affine is turned to LPS. What a header can't be trusted with is noted: an identity affine (no
geometry was stored), a qform and an sform that disagree, 8-bit values in place of Hounsfield units.
"""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from voco2d.errors import ReadError
from voco2d.io.array_volume import FileIds, array_volume
from voco2d.io.hounsfield import guess_hounsfield
from voco2d.io.orientation import Affine, axes_affine, split_affine, swap_lps_ras
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.spool import IN_MEMORY_BYTES, allocate, fill, planes, release
from voco2d.io.volume import MAX_VOXELS, Volume, is_usual_spacing

_MAX_GZIP_RATIO = 1040
_MOST_BESIDE_VOXELS = 2**20
_PIECE_BYTES = 8 * 2**20
_PIECES_AFTER = 4
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
_DAMAGED = (OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, MemoryError, zlib.error)
_BAD_HEADER = (nib.filebasedimages.ImageFileError, HeaderDataError, WrapStructError)


def nifti_stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read_nifti(source: Source, args: ReadArgs) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read the single file of `source`; patient and series are named by the file's stem.

    Returns:
        The volume, and no rejections.

    Raises:
        ReadError: When the file is damaged, lies about its size, is a label map, has NaN voxels, too few slices or
            values that are not Hounsfield units.
    """
    path = source.files[0]
    image, affine, notes = _open(path, args)
    array = _voxels(image, path)
    stem = nifti_stem(path)
    volume = array_volume(
        array,
        affine,
        source,
        args,
        to_hounsfield=lambda turned: guess_hounsfield(turned, path, args.windowed_hu),
        ids=FileIds(patient=stem, series=stem),
        notes=notes,
    )
    return volume, ()


def _open(path: Path, args: ReadArgs) -> tuple[Any, Affine, list[str]]:
    """Open the file without its voxels and settle its (4, 4) LPS affine."""
    try:
        with _quiet_nibabel():
            image: Any = nib.load(path)
        _refuse_size(image, path)
        affine, notes = _affine(image, args)
    except _BAD_HEADER as error:
        raise ReadError(path, "not a NIfTI file, or its header is damaged") from error
    except _DAMAGED as error:
        raise ReadError(path, "NIfTI file damaged or cut short") from error
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise ReadError(path, "the affine in the header has no inverse, so the axes are unknown; store a valid sform")
    return image, affine, notes


@contextlib.contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Silence nibabel on headers that it mends: it names no file."""
    log = nib.imageglobals.logger
    was = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = was


def _refuse_size(image: Any, path: Path) -> None:
    """Refuse headers that promise too much, before anything of that size is allocated."""
    is_nifti = isinstance(image, (nib.Nifti1Image, nib.Nifti2Image))
    if not is_nifti:
        raise ReadError(path, f"not a NIfTI file but {type(image).__name__}")
    shape = tuple(int(size) for size in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ReadError(path, f"array of shape {shape}, not one volume; save each volume in a file of its own")
    voxels = int(np.prod(shape, dtype=object))
    if min(shape) < 1 or voxels > MAX_VOXELS:
        raise ReadError(
            path, f"the header promises shape {shape}, {MAX_VOXELS} voxels are the limit; it is damaged or not a CT"
        )
    packed = path.suffix.lower() == ".gz"
    if packed and path.stat().st_size > voxels * image.get_data_dtype().itemsize * 1.01 + _MOST_BESIDE_VOXELS:
        raise ReadError(path, "holds far more than the header says; it is damaged or not a CT")
    ratio = _MAX_GZIP_RATIO if packed else 1
    if voxels * image.get_data_dtype().itemsize > path.stat().st_size * ratio:
        raise ReadError(path, f"cut short: the header promises {voxels} voxels, more than the file can hold")


def _affine(image: Any, args: ReadArgs) -> tuple[Affine, list[str]]:
    header = image.header
    zooms = [abs(float(zoom)) or 1.0 for zoom in header.get_zooms()[:3]]
    taken = f"axes taken as {args.identity_axes}"
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        note = f"no geometry: neither sform nor qform is set, {taken}"
        return axes_affine(args.identity_axes, (zooms[0], zooms[1], zooms[2])), [note]
    if np.allclose(image.affine, np.eye(4)):
        return axes_affine(args.identity_axes, (1.0, 1.0, 1.0)), [f"no geometry: identity affine, {taken}"]
    notes = []
    if int(header["qform_code"]) > 0 and int(header["sform_code"]) > 0:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*image.shape[:3], 1]
        apart = float(np.abs(corners @ (image.get_sform() - image.get_qform()).T).max())
        if apart > 0.1 * min(zooms):
            notes.append(f"conflict: sform and qform lie up to {apart:.3g} mm apart, sform taken")
    elif int(header["sform_code"]) == 0 and not _has_voxel_size(image):
        notes.append("no geometry: the header stores a voxel size of 0, taken as 1 mm")
    return _in_millimetres(swap_lps_ras(np.asarray(image.affine, np.float64)), header, notes), notes


def _has_voxel_size(image: Any) -> bool:
    """Say whether the file stores the size of voxels; nibabel reads 0 as 1."""
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)
    return bool(np.all(stored["pixdim"][1:4]))


def _in_millimetres(affine: Affine, header: Any, notes: list[str]) -> Affine:
    """Turn an affine in metres or micrometres to millimetres, unless only as millimetres it can be a CT's."""
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:
        return affine
    turned = affine.copy()
    turned[:3] *= _MILLIMETRES.get(unit, 1.0)
    if not is_usual_spacing(split_affine(turned)[0]) and is_usual_spacing(split_affine(affine)[0]):
        notes.append(f"conflict: the header's unit of length is {unit}, its voxel size fits mm, mm taken")
        return affine
    return turned


def _voxels(image: Any, path: Path) -> Shaped[np.ndarray, "a b c"]:
    """Voxels as three axes; integers stay integers where the header has no scale."""
    try:
        slope, inter = image.dataobj.slope, image.dataobj.inter
        plain = (slope, inter) == (1, 0)
        dtype = np.dtype(image.get_data_dtype())
        size = dtype.itemsize * int(np.prod(image.shape))
        if path.suffix.lower() == ".gz":
            array = _unpack(path, int(image.dataobj.offset), size).view(dtype).reshape(image.shape[:3], order="F")
            if plain:
                return np.asarray(array)
            if size > IN_MEMORY_BYTES:
                return _scaled(array, float(slope), float(inter))
            return np.asarray(array.astype(np.float32) * np.float32(slope) + np.float32(inter))
        array = image.dataobj.get_unscaled() if plain else image.get_fdata(dtype=np.float32, caching="unchanged")
        return np.asarray(array).reshape(image.shape[:3])
    except (*_BAD_HEADER, *_DAMAGED) as error:
        raise ReadError(path, "voxels damaged or cut short") from error


def _unpack(path: Path, offset: int, size: int) -> Shaped[np.ndarray, " bytes"]:
    """Unpack the voxels of a .nii.gz piece by piece, since as a whole a large file might not fit in memory.

    The file is read to its end, because only there does its checksum tell damaged voxels from sound ones.

    Raises:
        EOFError: The file ends before `size` bytes.
        OSError: The checksum is wrong.
        ReadError: Far more follows than was promised.
    """
    raw = allocate((1, 1, -(-size // 2))).reshape(-1).view(np.uint8)[:size]
    with gzip.open(path) as file:
        file.seek(offset)
        done = 0
        while done < size:
            piece = file.read(min(_PIECE_BYTES, size - done))
            if not piece:
                raise EOFError("fewer voxels than promised")
            raw[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
            release(raw)
        for _ in range(_PIECES_AFTER):
            if not file.read(_PIECE_BYTES):
                return raw
    raise ReadError(path, "holds far more than the header says; it is damaged or not a CT")


def _scaled(array: Shaped[np.ndarray, "a b c"], slope: float, inter: float) -> Shaped[np.ndarray, "a b c"]:
    """Apply the header's scale plane by plane of the last axis, which is the slowest; the result is rounded."""
    limits = np.iinfo(np.int16)
    slowest_first = np.moveaxis(array, 2, 0)
    scaled = (
        np.clip(np.rint(plane.astype(np.float32) * slope + inter), limits.min, limits.max)
        for plane in planes(slowest_first)
    )
    return np.moveaxis(fill((array.shape[2], array.shape[0], array.shape[1]), scaled), 0, 2)
