"""On which side the liver lies: a body with its liver on the left was most likely mirrored on its way here."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from voco2d.quality.body_grid import BodyGrid, Mask3

ORGAN_HU: Final = (25.0, 170.0)
"""From a liver without contrast to one in the portal phase; a fatty liver lies below and stays unknown."""

MIN_ORGAN_ML: Final = 250.0
"""Less organ-like tissue on the fuller side than this decides nothing."""

MIN_SIDE_SHARE: Final = 0.65
"""Share of the organ-like tissue on one side of the midline from which that side counts as the liver's."""

_MAX_LUNG_SHARE: Final = 0.2
_MAX_DEVIATION_HU: Final = 22.0
_SEARCH_MM: Final = 280.0
_OPENING: Final = 2


@dataclass(frozen=True)
class LiverSide:
    """Where the liver lies.

    Args:
        side: "right", "left" or "unknown"; of the patient.
        right_share: Share of the organ-like tissue that lies on the patient's right, 0…1; None where there is none.
        organ_ml: Volume of that tissue.
    """

    side: str
    right_share: float | None
    organ_ml: float


NOWHERE: Final = LiverSide("unknown", None, 0.0)


def find_liver_side(grid: BodyGrid) -> LiverSide:
    """Compare large homogeneous tissue on both sides of the midline.

    Of the slices with little lung, so below the heart, the uppermost 280 mm are looked at. Tissue counts where it is
    as bright as an organ, as even as one and thicker than 16 mm; muscles are symmetric and cancel out, spleen,
    kidneys and stomach weigh less than a liver.
    """
    area = grid.body.sum(axis=(1, 2))
    lung = grid.lungs.sum(axis=(1, 2)) / np.maximum(1, area)
    candidates = np.flatnonzero((lung < _MAX_LUNG_SHARE) & (area > 0) & (np.arange(lung.size) >= _lung_top(lung)))
    chosen = candidates[: max(1, round(_SEARCH_MM / grid.spacing_mm[0]))]
    if chosen.size == 0:
        return NOWHERE
    organ = _organ(grid.hu, grid.body)[chosen]
    middles = _middle_columns(grid.body[chosen])
    columns = np.arange(grid.hu.shape[2])
    on_right = columns[None, :] < middles[:, None]
    by_column = organ.sum(axis=1)
    right = float(by_column[on_right].sum()) * grid.voxel_ml
    total = float(by_column.sum()) * grid.voxel_ml
    share = right / total if total > 0 else None
    return LiverSide(_side(share, total), share, total)


def _side(right_share: float | None, total_ml: float) -> str:
    if right_share is None or total_ml * max(right_share, 1 - right_share) < MIN_ORGAN_ML:
        return "unknown"
    if right_share >= MIN_SIDE_SHARE:
        return "right"
    return "left" if right_share <= 1 - MIN_SIDE_SHARE else "unknown"


def _lung_top(lung: Float[np.ndarray, " Z"]) -> int:
    """First slice with lung, so that neck and shoulders above it are left out; 0 where no slice has any."""
    with_lung = np.flatnonzero(lung > 0.1)
    return int(with_lung[0]) if with_lung.size else 0


def _organ(hu: Float32[np.ndarray, "Z H W"], body: Mask3) -> Mask3:
    smooth = ndimage.gaussian_filter(hu, 1)
    mean = ndimage.uniform_filter(hu, 3)
    variance = ndimage.uniform_filter(hu * hu, 3) - mean * mean
    even = variance < _MAX_DEVIATION_HU**2
    candidate = body & (smooth > ORGAN_HU[0]) & (smooth < ORGAN_HU[1]) & even
    # A slab of few slices would vanish if slices beyond its ends counted as empty.
    padded = np.pad(candidate, ((_OPENING, _OPENING), (0, 0), (0, 0)), mode="edge")
    opened: Mask3 = ndimage.binary_opening(padded, iterations=_OPENING)[_OPENING:-_OPENING]
    return opened


def _middle_columns(body: Mask3) -> Float[np.ndarray, " Z"]:
    """Middle of the body on each slice."""
    present: Bool[np.ndarray, "Z W"] = np.any(body, axis=1)
    first = present.argmax(axis=1)
    last = present.shape[1] - 1 - present[:, ::-1].argmax(axis=1)
    middles: Float[np.ndarray, " Z"] = (first + last) / 2
    return middles
