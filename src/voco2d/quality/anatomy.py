"""Which part of the body a volume shows: lungs, bones and cross-section from the top to the bottom."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from voco2d.quality.body_grid import LUNG_HU, BodyGrid

ABDOMEN_LUNG_SHARE: Final = 0.25
"""A slice with more lung than this share of the body's area is chest."""

_BONE_HU: Final = 180
_DENSE_BONE_HU: Final = 250
_HEAD_BONE_SHARE: Final = 0.12
_LATERAL_BONE_SHARE: Final = 0.03
_MIN_AREA_CM2: Final = 150.0
_NOT_ABDOMEN_MM: Final = 40.0
_TOP_LUNG_SHARE: Final = 0.08
_NO_LUNG_SHARE: Final = 0.01
_PELVIS_BONE_CM2: Final = 2.5
_PELVIS_BELOW_LUNGS_MM: Final = 120.0
_PELVIS_BELOW_TOP_MM: Final = 200.0
_WHOLE_PELVIS_MM: Final = 80.0
_SHORT_BELOW_LUNGS_MM: Final = 230.0
_LATERAL: Final = (0.14, 0.45)


@dataclass(frozen=True)
class Anatomy:
    """What a volume shows; None is unknown.

    Args:
        lung_share_top: Mean share of lung in the body's area over the uppermost 20 mm.
        lung_share_max: Largest share of lung on any slice.
        abdomen_mm: Extent of the slices that look like an abdomen.
        abdomen_score: Share of the slices that look like an abdomen, 0…1.
        pelvis_mm: Extent of the slices with hip bones, from their first one downwards.
        reaches_lungs: Whether the lung bases are in the volume.
        reaches_pelvis: Whether a good part of the pelvis is.
        is_abdomen: Whether there is any abdomen to speak of.
    """

    lung_share_top: float | None
    lung_share_max: float | None
    abdomen_mm: float | None
    abdomen_score: float | None
    pelvis_mm: float | None
    reaches_lungs: bool | None
    reaches_pelvis: bool | None
    is_abdomen: bool | None

    @property
    def coverage(self) -> str:
        """Whether lung bases to pelvis are covered: complete, partial or unknown."""
        if self.is_abdomen is False or self.reaches_lungs is False or self.reaches_pelvis is False:
            return "partial"
        return "complete" if self.reaches_lungs and self.reaches_pelvis else "unknown"


UNKNOWN: Final = Anatomy(None, None, None, None, None, None, None, None)


def find_anatomy(grid: BodyGrid) -> Anatomy:
    """Judge a volume slice by slice.

    Limits were set on about twenty public scans and the phantom, see the page on quality; where they are not met
    clearly the answer is unknown. A volume without values below −500 HU was windowed and shows no lung: unknown.
    """
    if not (grid.hu < LUNG_HU).any() or not grid.body.any():
        return UNKNOWN
    step = grid.spacing_mm[0]
    area = np.maximum(1, grid.body.sum(axis=(1, 2)))
    lung: Float[np.ndarray, " Z"] = grid.lungs.sum(axis=(1, 2)) / area
    abdomen = _abdomen_slices(grid, lung)
    abdomen_mm = float(abdomen.sum() * step)
    score = float(abdomen.mean())
    top = max(1, round(20 / step))
    pelvis_mm = _pelvis_mm(grid, lung)
    return Anatomy(
        lung_share_top=float(lung[:top].mean()),
        lung_share_max=float(lung.max()),
        abdomen_mm=abdomen_mm,
        abdomen_score=score,
        pelvis_mm=pelvis_mm,
        reaches_lungs=_reaches_lungs(float(lung.max())),
        reaches_pelvis=_reaches_pelvis(lung, pelvis_mm, step),
        is_abdomen=abdomen_mm >= _NOT_ABDOMEN_MM or score >= 0.5,
    )


def _abdomen_slices(grid: BodyGrid, lung: Float[np.ndarray, " Z"]) -> Bool[np.ndarray, " Z"]:
    """Slices with little lung that are neither head, neck nor shoulders."""
    pixels = np.maximum(1, grid.body.sum(axis=(1, 2)))
    bone = (grid.body & (grid.hu > _BONE_HU)).sum(axis=(1, 2)) / pixels
    lateral = _lateral_bone(grid).sum(axis=(1, 2)) / pixels
    trunk = (pixels * grid.pixel_cm2 >= _MIN_AREA_CM2) & (bone < _HEAD_BONE_SHARE)
    if lung.max() > 0.1:
        # From the largest cross-section of the lungs upwards it is chest, and then shoulders, neck and head.
        trunk &= np.arange(lung.size) >= int(lung.argmax())
    else:
        # Without lung only bones can tell shoulders or hips from the slices between them.
        trunk &= lateral < _LATERAL_BONE_SHARE
    abdomen: Bool[np.ndarray, " Z"] = trunk & (lung < ABDOMEN_LUNG_SHARE)
    return abdomen


def _pelvis_mm(grid: BodyGrid, lung: Float[np.ndarray, " Z"]) -> float:
    """Extent from the first slice with hip bones on both sides to the bottom; ribs and arms lie higher."""
    step = grid.spacing_mm[0]
    lateral = _lateral_bone(grid)
    middle = _middle_column(grid)
    columns = np.arange(grid.hu.shape[2])
    sides = [lateral[:, :, columns < middle], lateral[:, :, columns > middle]]
    smaller = np.minimum(sides[0].sum(axis=(1, 2)), sides[1].sum(axis=(1, 2))) * grid.pixel_cm2
    with_lung = np.flatnonzero(lung > 0.02)
    start = with_lung[-1] + _PELVIS_BELOW_LUNGS_MM / step if with_lung.size else _PELVIS_BELOW_TOP_MM / step
    hips = (smaller >= _PELVIS_BONE_CM2) & (np.arange(lung.size) >= start)
    return float(hips.sum() * step)


def _reaches_lungs(largest: float) -> bool | None:
    if largest >= _TOP_LUNG_SHARE:
        return True
    return False if largest < _NO_LUNG_SHARE else None


def _reaches_pelvis(lung: Float[np.ndarray, " Z"], pelvis_mm: float, step_mm: float) -> bool | None:
    if pelvis_mm >= _WHOLE_PELVIS_MM:
        return True
    with_lung = np.flatnonzero(lung > 0.02)
    below_mm = (lung.size - (with_lung[-1] + 1 if with_lung.size else 0)) * step_mm
    return False if pelvis_mm < 20 and below_mm < _SHORT_BELOW_LUNGS_MM else None


def _lateral_bone(grid: BodyGrid) -> Bool[np.ndarray, "Z H W"]:
    """Dense bone beside the spine."""
    columns = np.flatnonzero(grid.body.any(axis=(0, 1)))
    width = columns[-1] - columns[0] + 1
    offset = np.abs(np.arange(grid.hu.shape[2]) - _middle_column(grid)) / width
    beside = (offset > _LATERAL[0]) & (offset < _LATERAL[1])
    lateral: Bool[np.ndarray, "Z H W"] = grid.body & (grid.hu > _DENSE_BONE_HU) & beside
    return lateral


def _middle_column(grid: BodyGrid) -> float:
    columns = np.flatnonzero(grid.body.any(axis=(0, 1)))
    return float(columns[0] + columns[-1]) / 2
