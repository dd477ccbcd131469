"""Where the patient is in a CT volume: the box around the body, without table, blankets and surrounding air."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int16
from scipy import ndimage

from voco2d.io.spool import lowest, planes
from voco2d.types import HuVolume

Box: TypeAlias = tuple[int, int, int, int, int, int]
"""Half-open voxel ranges z0, z1, h0, h1, w0, w1 in the source volume."""

Mask: TypeAlias = Bool[np.ndarray, "H W"]

BODY_THRESHOLD_HU = -500
"""Above lie fat, soft tissue and bone; below lie air, lung, clothes and the foam of the table."""

_COARSE_PIXELS = 256
_OPENING_SHARE = 100
_MIN_BODY_SHARE = 0.01
_CONTOUR_SHARE = 0.25
_PRESENT_SHARE = 0.02
_FEW_COMPONENTS = 6


@dataclass(frozen=True)
class Body:
    """The patient's place in a volume.

    Args:
        box: z range from the first to the last slice with body; h and w ranges around the large contours of all slices.
        fraction: Share of the box's voxels inside body contours, 0…1; lung and bowel gas do not count.
    """

    box: Box
    fraction: float


@dataclass(frozen=True)
class _Contour:
    z: int
    area: int
    h: slice
    w: slice


def body_box(hu: HuVolume, threshold_hu: int = BODY_THRESHOLD_HU) -> Box | None:
    """Return the box of `find_body`, or None where there is no body."""
    body = find_body(hu, threshold_hu)
    return None if body is None else body.box


def find_body(hu: HuVolume, threshold_hu: int = BODY_THRESHOLD_HU) -> Body | None:
    """Find the patient.

    On each slice, on a grid of about 256 pixels: threshold, opening (which removes table shells and cables),
    connected components. The in-plane box joins the components of at least a quarter of the volume's largest one:
    so both thighs and a chest split by the field of view count, and a table alone above the head does not. Slices at
    either end hold no body where each component is below 2 % of the largest one or centred behind the patient's back.

    Args:
        hu: (Z, H, W) int16 Hounsfield units; padding such as −3024 counts as air.
        threshold_hu: Body is above it. Raised to the volume's minimum where that is higher, so that a volume
            whose intensities were windowed before (air at −150 for example) still shows its background.

    Returns:
        The body, or None where no slice holds a component of at least 1 % of the slice.
    """
    height, width = hu.shape[1:]
    step = max(1, round(min(height, width) / _COARSE_PIXELS))
    radius = min(height, width) // step // _OPENING_SHARE
    threshold = max(threshold_hu, lowest(hu))
    contours = [
        contour
        for z, plane in enumerate(planes(hu))
        for contour in _contours(plane[::step, ::step], z, threshold, radius)
    ]
    coarse_pixels = -(-height // step) * -(-width // step)
    largest = max((contour.area for contour in contours), default=0)
    if largest < _MIN_BODY_SHARE * coarse_pixels:
        return None
    large = [contour for contour in contours if contour.area >= _CONTOUR_SHARE * largest]
    h0, h1 = _extent([contour.h for contour in large], step, height)
    w0, w1 = _extent([contour.w for contour in large], step, width)
    back = max(contour.h.stop for contour in large)
    present = [
        contour.z
        for contour in contours
        if contour.area >= _PRESENT_SHARE * largest and contour.h.start + contour.h.stop < 2 * back
    ]
    z0, z1 = min(present), max(present) + 1
    voxels = (z1 - z0) * (h1 - h0) * (w1 - w0)
    fraction = sum(contour.area for contour in large) * step * step / voxels
    return Body(box=(z0, z1, h0, h1, w0, w1), fraction=min(1.0, fraction))


def _contours(hu: Int16[np.ndarray, "H W"], z: int, threshold_hu: int, radius: int) -> list[_Contour]:
    mask = _open(hu > threshold_hu, radius)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    top, left = int(rows[0]), int(columns[0])
    labels, count = ndimage.label(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    if count > _FEW_COMPONENTS:
        areas = np.bincount(labels.ravel())[1:]
        boxes = ndimage.find_objects(labels)
        return [_contour(z, int(area), box, top, left) for area, box in zip(areas, boxes, strict=True)]
    contours = []
    for label in range(1, count + 1):  # several times as fast as the above for a few
        part = labels == label
        h, w = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        box = (slice(int(h[0]), int(h[-1]) + 1), slice(int(w[0]), int(w[-1]) + 1))
        contours.append(_contour(z, int(np.count_nonzero(part)), box, top, left))
    return contours


def _contour(z: int, area: int, box: tuple[slice, ...], top: int, left: int) -> _Contour:
    h, w = box
    return _Contour(z, area, slice(h.start + top, h.stop + top), slice(w.start + left, w.stop + left))


def _open(mask: Mask, radius: int) -> Mask:
    """Open by a square of 2 × radius + 1 pixels; what the image border cuts is not eroded from there."""
    if radius == 0:
        return mask
    eroded = ~_grow(~mask, radius)
    return _grow(eroded, radius)


def _grow(mask: Mask, radius: int) -> Mask:
    grown = mask.copy()
    for shift in range(1, radius + 1):
        grown[shift:] |= mask[:-shift]
        grown[:-shift] |= mask[shift:]
    rows = grown.copy()
    for shift in range(1, radius + 1):
        grown[:, shift:] |= rows[:, :-shift]
        grown[:, :-shift] |= rows[:, shift:]
    return grown


def _extent(ranges: list[slice], step: int, size: int) -> tuple[int, int]:
    """Join coarse ranges and give them one coarse pixel of margin, because opening and step shave the skin."""
    low = (min(part.start for part in ranges) - 1) * step
    high = (max(part.stop for part in ranges) + 1) * step
    return max(0, low), min(size, high)
