"""Reads NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK, the extra `itk`, into a `Volume`."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from voco2d.errors import ReadError
from voco2d.io.hounsfield import guess_hounsfield, refuse_unreal
from voco2d.io.orientation import Affine, obliquity_deg, split_affine, to_patient_axes
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import MAX_VOXELS, Volume

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Ends of the names of the files read here."""

_NOTABLE_DEG = 1.0
_MAX_RATIO = 1040
_HEADER_BYTES = 65_536


def detached_data(path: Path) -> Path | None:
    """File beside a .nhdr or .mhd header that holds its voxels; `None` where there is none or it can't be told."""
    if path.suffix.lower() not in (".nhdr", ".mhd"):
        return None
    try:
        with path.open("rb") as file:
            lines = file.read(_HEADER_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        for mark in ("data file:", "datafile:", "elementdatafile ="):
            name = line.strip()
            if name.lower().startswith(mark):
                beside = path.parent / name[len(mark) :].strip()
                # a header may name any file; only one beside it is taken
                return beside if beside.parent == path.parent and beside.is_file() else None
    return None


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
    turned, affine = to_patient_axes(array, affine)
    refuse_unreal(turned, path)
    if turned.shape[0] < args.min_slices:
        raise ReadError(path, f"{turned.shape[0]} axial slices, a volume needs at least {args.min_slices}")
    hu, notes = guess_hounsfield(turned, path, args.windowed_hu)
    if obliquity_deg(affine) > _NOTABLE_DEG:
        notes = (f"oblique: {obliquity_deg(affine):.1f} deg", *notes)
    spacing_mm, direction, origin_mm = split_affine(affine)
    volume = Volume(
        hu=hu,
        spacing_mm=spacing_mm,
        direction=direction,
        origin_mm=origin_mm,
        patient_id=source.patient_id or path.stem,
        study_id="",
        series_id=source.series_id or path.stem,
        source=str(source.path),
        notes=notes,
    )
    return volume, ()


def _load(itk: Any, path: Path) -> tuple[Shaped[np.ndarray, "a b c"], Affine]:
    """Read the header, hold its promises against the file, then read the voxels; axes in ITK's order reversed."""
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _refuse_size(reader, path)
        affine = _affine(reader, path)
        array = itk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, MemoryError, ValueError, OverflowError) as error:
        raise ReadError(path, f"image damaged, cut short or not what its name says ({type(error).__name__})") from error
    return array.reshape(array.shape[-3:]), affine


def _refuse_size(reader: Any, path: Path) -> None:
    sizes = [int(size) for size in reader.GetSize()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3 or reader.GetNumberOfComponents() != 1:
        raise ReadError(path, "not one volume of one number a voxel; save each volume in a file of its own")
    voxels = sizes[0] * sizes[1] * sizes[2]
    if min(sizes) < 1 or voxels > MAX_VOXELS:
        raise ReadError(path, f"the header promises {voxels} voxels, {MAX_VOXELS} are the limit")
    data = detached_data(path) or path
    if voxels > data.stat().st_size * _MAX_RATIO:
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
