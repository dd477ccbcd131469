"""Segmentation masks of the organs of interest: finding the mask of a series and the box around its organs.

Masks are laid on the volume by the geometry in their own headers, never by their array order: the RSNA 2023
segmentations, for one, have other axes than the DICOM files they were made from.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Integer
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from scipy import ndimage

from voco2d.errors import ReadError
from voco2d.io.orientation import Affine, swap_lps_ras
from voco2d.io.volume import MAX_VOXELS, Volume
from voco2d.preprocessing.body import Box

TOTALSEGMENTATOR_LABELS: dict[str, int] = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "liver": 5,
    "small_bowel": 18,
    "duodenum": 19,
    "colon": 20,
}
"""Organs of interest: class names and numbers of TotalSegmentator, version 2, task `total`."""

RSNA_LABELS: dict[str, int] = {"liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4, "bowel": 5}
"""Numbers in the segmentations of the RSNA 2023 competition."""

_LABEL_VOXELS = 2**25
_TISSUE_HU = (-300, 500)
_TISSUE_SHARE = 0.5
_SAMPLES = 20_000
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, MemoryError, zlib.error),
    *(ImageFileError, HeaderDataError, WrapStructError),
)


@dataclass(frozen=True)
class OrganMask:
    """Organs of interest on a grid of their own.

    Args:
        inside: (a, b, c) true where an organ of interest is.
        affine_lps: (4, 4) map from its voxel index to LPS millimetres.
    """

    inside: Bool[np.ndarray, "a b c"]
    affine_lps: Affine


def find_mask(folder: Path, volume: Volume) -> Path | None:
    """Return the mask of `volume`, or None where there is none.

    In `folder` or its subfolder `segmentations`, for NAME being the series' number or the stem of its file or folder:
    the folder NAME with one file an organ (`liver.nii.gz` …, as TotalSegmentator writes them), NAME_labels.nii.gz,
    NAME.nii.gz or NAME.nii (RSNA). The volume's own file is never taken for its mask.
    """
    source = Path(volume.source)
    stem = source.name.removesuffix(".gz").removesuffix(".nii")
    for root in (folder, folder / "segmentations"):
        for name in dict.fromkeys((volume.series_id, stem)):
            if not name or name in (".", "..") or Path(name).name != name or "\0" in name:
                continue  # an identifier out of a file must not lead out of the folder
            if _organ_files(root / name):
                return root / name
            files = (root / f"{name}{ending}" for ending in ("_labels.nii.gz", "_labels.nii", ".nii.gz", ".nii"))
            for file in files:
                if file.is_file() and not (source.exists() and file.samefile(source)):
                    return file
    return None


def read_mask(path: Path, labels: tuple[int, ...] = ()) -> OrganMask:
    """Read a label file, or a folder with one file an organ.

    Args:
        path: As `find_mask` returns it.
        labels: Numbers of the organs of interest. If empty: `RSNA_LABELS` where no number is above 5, else
            `TOTALSEGMENTATOR_LABELS`. Of no meaning for a folder.

    Raises:
        ReadError: A file is damaged, too large or has no geometry, or the files of a folder don't fit together.
    """
    if path.is_dir():
        return _read_folder(path)
    array, affine = _read_labels(path)
    if not labels:
        plain = int(array.max(initial=0)) <= max(RSNA_LABELS.values())
        labels = tuple((RSNA_LABELS if plain else TOTALSEGMENTATOR_LABELS).values())
    return OrganMask(np.isin(array, labels), affine)


def organ_box(mask: OrganMask, volume: Volume, margin_mm: float) -> Box:
    """Return the box in `volume` around the largest connected component of the mask, as in the paper.

    Masks of more than 2²⁵ voxels are searched on every second (third …) voxel of an axis; the box is as much larger.

    Args:
        mask: On any grid.
        volume: What it belongs to.
        margin_mm: Added on all six sides, where the volume goes on.

    Raises:
        ReadError: The mask is empty, or does not lie on the body in this volume.
    """
    strides = _strides(mask.inside.shape)
    inside = mask.inside[tuple(slice(None, None, stride) for stride in strides)]
    component = _largest_component(inside)
    if component is None:
        raise ReadError(volume.source, "none of the organs of interest is in the mask")
    scale = np.diag([*strides, 1]).astype(np.float64)
    index = np.linalg.inv(volume.affine_lps) @ mask.affine_lps @ scale
    low, high = _extent(component, index)
    _refuse_foreign(component, index, volume)
    margin = margin_mm / np.asarray(volume.spacing_mm)
    starts = np.maximum(np.floor(low - margin + 1e-6), 0).astype(int)
    stops = np.minimum(np.ceil(high + margin - 1e-6), volume.hu.shape).astype(int)
    z, h, w = [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]
    return (*z, *h, *w)


def _organ_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        folder / f"{organ}{ending}"
        for organ in TOTALSEGMENTATOR_LABELS
        for ending in (".nii.gz", ".nii")
        if (folder / f"{organ}{ending}").is_file()
    ]


def _read_folder(folder: Path) -> OrganMask:
    files = _organ_files(folder)
    if not files:
        raise ReadError(folder, "no mask of an organ of interest in it")
    first, affine = _read_labels(files[0])
    inside = first > 0
    for file in files[1:]:
        array, other = _read_labels(file)
        if array.shape != inside.shape or not np.allclose(other, affine, atol=1e-3):
            raise ReadError(folder, "its masks lie on different grids")
        inside |= array > 0
    return OrganMask(inside, affine)


def _read_labels(path: Path) -> tuple[Integer[np.ndarray, "a b c"], Affine]:
    try:
        image: Any = nib.load(path)
        shape = tuple(int(size) for size in image.shape)
        if len(shape) != 3 or not 1 <= int(np.prod(shape, dtype=object)) <= MAX_VOXELS:
            raise ReadError(path, f"mask of shape {shape}, not one volume")
        if int(image.header["qform_code"]) == 0 and int(image.header["sform_code"]) == 0:
            raise ReadError(path, "mask without geometry: neither sform nor qform is set")
        affine = swap_lps_ras(np.asarray(image.affine, np.float64))
        values = np.asarray(image.dataobj)
    except _UNREADABLE as error:
        raise ReadError(path, "mask can't be read") from error
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ReadError(path, "mask without geometry: its affine has no inverse")
    if values.dtype.kind not in "iuf":
        raise ReadError(path, f"mask of type {values.dtype}; store whole numbers")
    return (values if values.dtype.kind != "f" else np.rint(np.nan_to_num(values)).astype(np.int32)), affine


def _strides(shape: tuple[int, ...]) -> list[int]:
    strides = [1] * len(shape)
    while np.prod([size / stride for size, stride in zip(shape, strides, strict=True)]) > _LABEL_VOXELS:
        strides[int(np.argmax([size / stride for size, stride in zip(shape, strides, strict=True)]))] += 1
    return strides


def _largest_component(inside: Bool[np.ndarray, "a b c"]) -> Bool[np.ndarray, "a b c"] | None:
    labels, count = ndimage.label(inside)
    if count == 0:
        return None
    component: Bool[np.ndarray, "a b c"] = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return component


def _extent(
    component: Bool[np.ndarray, "a b c"], index: Affine
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Lowest and highest corner of the component's voxels, on the scale on which voxel i lies between i and i + 1."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for first in np.flatnonzero(component.any(axis=(1, 2))):
        voxels = np.argwhere(component[first])
        points = voxels @ index[:3, 1:3].T + index[:3, 0] * first + index[:3, 3]
        low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    half = np.abs(index[:3, :3]).sum(axis=1) / 2
    return low - half + 0.5, high + half + 0.5


def _refuse_foreign(component: Bool[np.ndarray, "a b c"], index: Affine, volume: Volume) -> None:
    """Refuse a mask under which there is no tissue: it belongs to another series, or its header is wrong."""
    flat = np.flatnonzero(component)
    chosen = flat[:: max(1, flat.size // _SAMPLES)]
    voxels = np.stack(np.unravel_index(chosen, component.shape), axis=1)
    points = np.rint(voxels @ index[:3, :3].T + index[:3, 3]).astype(np.int64)
    points = points[((points >= 0) & (points < volume.hu.shape)).all(axis=1)]
    hu = volume.hu[points[:, 0], points[:, 1], points[:, 2]]
    tissue = np.count_nonzero((hu > _TISSUE_HU[0]) & (hu < _TISSUE_HU[1]))
    if tissue < _TISSUE_SHARE * chosen.size:
        raise ReadError(volume.source, "mask does not lie on the body of this volume")
