"""Measures of one series for the quality table: a flat row of numbers, words and flags."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int16, Int64
from scipy import ndimage

from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import Prepared
from voco2d.quality.anatomy import UNKNOWN, Anatomy, find_anatomy
from voco2d.quality.body_grid import BodyGrid, body_grid, cut_share, prepared_spacing_mm
from voco2d.quality.flags import find_flags, is_organ_crop
from voco2d.quality.histogram import COLUMNS as BIN_COLUMNS
from voco2d.quality.histogram import PERCENTILES, count_values, histogram, peak_hu, percentile
from voco2d.quality.limits import is_limited, middle_slices
from voco2d.quality.liver_side import NOWHERE, LiverSide, find_liver_side
from voco2d.types import Matrix, Millimetres3

QUALITY_COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "flags": "str",
        "orientation": "str",
        "obliquity_deg": "float64",
        "coverage_h_mm": "float64",
        "coverage_w_mm": "float64",
        "body_share": "float64",
        "cut_share": "float64",
        "body_width_mm": "float64",
        "air_share": "float64",
        "lung_share": "float64",
        "fat_share": "float64",
        "soft_share": "float64",
        "bone_share": "float64",
        "metal_share": "float64",
        "noise_hu": "float64",
        "fat_peak_hu": "float64",
        "soft_peak_hu": "float64",
        "bright_ml": "float64",
        "lung_share_top": "float64",
        "lung_share_max": "float64",
        "abdomen_mm": "float64",
        "abdomen_score": "float64",
        "pelvis_mm": "float64",
        "is_abdomen": "str",
        "coverage_state": "str",
        "liver_side": "str",
        "liver_right_share": "float64",
        "organ_ml": "float64",
        **dict.fromkeys(PERCENTILES, "float64"),
        **dict.fromkeys(BIN_COLUMNS, "float64"),
    }
)
"""Columns of `measure` and their types; a number is None where it is unknown."""

_ASSUMED_WIDTH_MM: Final = 350.0
_ASSUMED_DEPTH_MM: Final = 450.0


@dataclass(frozen=True)
class _Tissue:
    """Shares of the body and HU of its tissues; the names are columns."""

    body_share: float
    cut_share: float
    body_width_mm: float
    air_share: float
    lung_share: float
    fat_share: float
    soft_share: float
    bone_share: float
    metal_share: float
    fat_peak_hu: float | None
    soft_peak_hu: float | None
    bright_ml: float


def measure(volume: Volume, prepared: Prepared) -> dict[str, Any]:
    """Measure a series.

    Args:
        volume: As read; only its geometry, its notes and a few slices are looked at.
        prepared: What preprocessing made of it; everything else is measured on this.

    Returns:
        A row with the keys of `QUALITY_COLUMNS`, made of str, float and None.
    """
    notes = (*volume.notes, *prepared.notes)
    no_geometry = any(note.startswith("no geometry") for note in notes)
    spacing_mm = _assumed_spacing_mm(prepared) if no_geometry else prepared_spacing_mm(volume, prepared)
    grid = body_grid(prepared, spacing_mm)
    counts = count_values(prepared.hu)
    slices = middle_slices(volume, prepared)
    is_crop = is_organ_crop(notes)
    # Lengths of an assumed geometry say nothing; on which side the liver lies can be seen without them.
    anatomy = UNKNOWN if no_geometry or is_crop else find_anatomy(grid)
    row: dict[str, Any] = {
        "orientation": orientation_code(volume.direction),
        "obliquity_deg": obliquity_deg(volume.direction),
        "coverage_h_mm": float(volume.coverage_mm[1]),
        "coverage_w_mm": float(volume.coverage_mm[2]),
        **asdict(_tissue(prepared, grid, counts)),
        "noise_hu": noise_hu(slices),
        **_anatomy_row(anatomy),
        **_liver_row(NOWHERE if is_crop else find_liver_side(grid)),
        **{name: percentile(counts, share) for name, share in PERCENTILES.items()},
        **dict(zip(BIN_COLUMNS, map(float, histogram(counts)), strict=True)),
    }
    source = {
        "n_slices": volume.hu.shape[0],
        "coverage_mm": volume.coverage_mm[0],
        "is_limited": is_limited(slices),
    }
    row["flags"] = find_flags({**row, **source}, notes)
    return {name: row[name] for name in QUALITY_COLUMNS}


def orientation_code(direction: Matrix) -> str:
    """Return in which direction each array axis increases, one letter of R L A P I S an axis: "IPL" is axial.

    Args:
        direction: (3, 3) as in `Volume`: columns are unit vectors in LPS.
    """
    letters = ("RL", "AP", "IS")
    code = ""
    for axis in direction.T:
        world = int(np.abs(axis).argmax())
        code += letters[world][int(axis[world] > 0)]
    return code


def obliquity_deg(direction: Matrix) -> float:
    """Return the largest angle between an array axis and the patient axis nearest to it, degrees."""
    nearest = np.clip(np.abs(direction).max(axis=0), 0.0, 1.0)
    return round(float(np.degrees(np.arccos(nearest)).max()), 2)


def noise_hu(hu: Int16[np.ndarray, "few H W"]) -> float | None:
    """Return the spread of the difference of neighbouring soft-tissue pixels over √2, HU; None without such tissue.

    Taken on a few source slices, since resizing averages noise away. Noise that is smooth over pixels is
    underestimated, so it serves to compare series of like pixel size.
    """
    left, right = hu[:, :, :-1].astype(np.float32), hu[:, :, 1:].astype(np.float32)
    middle = (left + right) / 2
    differences = (right - left)[(middle > 0) & (middle < 120)]
    if differences.size < 1000:
        return None
    return round(float(1.4826 * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2)), 2)


def _assumed_spacing_mm(prepared: Prepared) -> Millimetres3:
    """Give a body box without geometry the size of a usual one."""
    depth, _, width = prepared.hu.shape
    z0, z1, h0, h1, w0, w1 = prepared.box
    height_mm = _ASSUMED_WIDTH_MM * (h1 - h0) / (w1 - w0)
    return (
        min(_ASSUMED_DEPTH_MM, 5.0 * (z1 - z0)) / depth,
        height_mm / prepared.hu.shape[1],
        _ASSUMED_WIDTH_MM / width,
    )


def _tissue(prepared: Prepared, grid: BodyGrid, counts: Int64[np.ndarray, " values"]) -> _Tissue:
    inside = grid.hu[grid.body]
    count = max(1, inside.size)
    columns = np.flatnonzero(grid.body.any(axis=(0, 1)))
    return _Tissue(
        body_share=float(grid.body.mean()),
        cut_share=cut_share(grid),
        body_width_mm=float(columns.size * grid.spacing_mm[2]),
        air_share=float((prepared.hu < -900).mean()),
        lung_share=float(grid.lungs.sum() / count),
        fat_share=float(((inside >= -150) & (inside < -30)).sum() / count),
        soft_share=float(((inside >= -30) & (inside < 150)).sum() / count),
        bone_share=float((inside >= 150).sum() / count),
        metal_share=float((prepared.hu >= 2500).mean()),
        fat_peak_hu=peak_hu(counts, -150, -40),
        soft_peak_hu=peak_hu(counts, -30, 180),
        bright_ml=_bright_ml(grid),
    )


def _bright_ml(grid: BodyGrid) -> float:
    """Volume of even tissue of 130 to 450 HU: large vessels and kidneys with contrast, hardly any bone."""
    mean = ndimage.uniform_filter(grid.hu, 3)
    deviation = _variance(grid.hu, mean)
    return float((grid.body & (mean > 130) & (mean < 450) & (deviation < 25**2)).sum() * grid.voxel_ml)


def _variance(hu: Float32[np.ndarray, "Z H W"], mean: Float32[np.ndarray, "Z H W"]) -> Float32[np.ndarray, "Z H W"]:
    variance: Float32[np.ndarray, "Z H W"] = ndimage.uniform_filter(hu * hu, 3) - mean * mean
    return variance


def _anatomy_row(anatomy: Anatomy) -> dict[str, Any]:
    words = {True: "yes", False: "no", None: "unknown"}
    return {
        "lung_share_top": anatomy.lung_share_top,
        "lung_share_max": anatomy.lung_share_max,
        "abdomen_mm": anatomy.abdomen_mm,
        "abdomen_score": anatomy.abdomen_score,
        "pelvis_mm": anatomy.pelvis_mm,
        "is_abdomen": words[anatomy.is_abdomen],
        "coverage_state": anatomy.coverage,
    }


def _liver_row(liver: LiverSide) -> dict[str, Any]:
    return {"liver_side": liver.side, "liver_right_share": liver.right_share, "organ_ml": liver.organ_ml}
