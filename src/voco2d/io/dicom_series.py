"""Puts the slices of one DICOM series in order by their position along the slice normal, and says what is odd."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from voco2d.io.dicom_header import SliceHeader
from voco2d.io.orientation import Affine
from voco2d.io.source import Rejection

MAX_AXIAL_TILT_DEG = 30.0
"""Slices whose normal is further than this from the body's long axis are not axial."""

SAME_POSITION_MM = 0.01
_SAME_COSINE = 0.01
_SAME_SPACING = 0.01
_NOTABLE_DEG = 0.5
_UNEVEN_SHARE = 0.1
_UNEVEN_MM = 0.05


def keep_majority(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Rejection]]:
    """Keep the largest set of slices that share matrix, pixel spacing and orientation; reject the others."""
    groups: list[list[SliceHeader]] = []
    for header in headers:
        for group in groups:
            if _difference(header, group[0]) is None:
                group.append(header)
                break
        else:
            groups.append([header])
    kept = max(groups, key=len)
    strays = (header for group in groups if group is not kept for header in group)
    return kept, [
        Rejection(str(stray.path), f"{_difference(stray, kept[0])} differs from the series") for stray in strays
    ]


def slice_normal(header: SliceHeader) -> Float[np.ndarray, "3"]:
    """Unit normal of a slice in LPS, on the superior side."""
    across, down = np.reshape(header.orientation, (2, 3))
    normal = np.cross(across, down)
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    return normal if normal[2] >= 0 else -normal


def axial_tilt_deg(header: SliceHeader) -> float:
    """Angle between a slice's normal and the body's long axis, 0 to 90 degrees."""
    return math.degrees(math.acos(min(1.0, float(slice_normal(header)[2]))))


def stack_positions(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Sort slices from superior to inferior by their position along the normal.

    Args:
        headers: Slices of one orientation.

    Returns:
        One list a position; slices that share it stand in it by instance number, then file name.
    """
    heights = heights_mm(headers)
    stacks: list[list[SliceHeader]] = []
    last = math.inf
    for index in np.argsort(-heights, kind="stable"):
        if last - heights[index] > SAME_POSITION_MM:
            stacks.append([])
            last = float(heights[index])
        stacks[-1].append(headers[index])
    for stack in stacks:
        stack.sort(key=lambda header: (_instance(header), header.path.name, str(header.path)))
    return stacks


def heights_mm(headers: Sequence[SliceHeader]) -> Float[np.ndarray, " slices"]:
    """Position of each slice along the series' superior normal, millimetres."""
    positions = np.array([header.position_mm for header in headers])
    return np.asarray(positions @ slice_normal(headers[0]))


def stack_affine(headers: Sequence[SliceHeader]) -> Affine:
    """(4, 4) map from (slice, row, column) to LPS millimetres; slices stand from superior to inferior.

    The slice distance is the median, so the map is exact in each plane and, where distances are uneven, approximate
    along the stack.
    """
    first = headers[0]
    across, down = np.reshape(first.orientation, (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = -slice_normal(first) * float(np.median(_distances_mm(headers)))
    affine[:3, 1] = down * first.pixel_spacing_mm[0]
    affine[:3, 2] = across * first.pixel_spacing_mm[1]
    affine[:3, 3] = first.position_mm
    return affine


def stack_notes(headers: Sequence[SliceHeader]) -> list[str]:
    """Say what is odd about the geometry of slices that stand from superior to inferior."""
    distances = _distances_mm(headers)
    usual = float(np.median(distances))
    odd = np.abs(distances - usual) > max(_UNEVEN_SHARE * usual, _UNEVEN_MM)
    notes = []
    if odd.any():
        worst = f"{distances.min():.4g} to {distances.max():.4g} mm"
        notes.append(f"gap: slice distances {worst} where {usual:.4g} mm is usual, {np.count_nonzero(odd)} odd")
    tilt = _shear_deg(headers)
    if tilt > _NOTABLE_DEG:
        notes.append(f"tilt: {tilt:.1f} deg")
    elif axial_tilt_deg(headers[0]) > _NOTABLE_DEG:
        notes.append(f"oblique: {axial_tilt_deg(headers[0]):.1f} deg")
    if not all(header.has_rescale for header in headers):
        notes.append("no rescale: RescaleIntercept is missing, stored values taken as HU")
    return notes


def commonest(rejections: Sequence[Rejection]) -> str:
    """Most frequent reason."""
    return Counter(rejection.reason for rejection in rejections).most_common(1)[0][0]


def _difference(header: SliceHeader, other: SliceHeader) -> str | None:
    """What keeps two slices from standing in one array, or `None`."""
    if header.shape != other.shape:
        return "matrix size"
    if not np.allclose(header.orientation, other.orientation, rtol=0, atol=_SAME_COSINE):
        return "orientation"
    if not np.allclose(header.pixel_spacing_mm, other.pixel_spacing_mm, rtol=_SAME_SPACING, atol=0):
        return "pixel spacing"
    return None


def _instance(header: SliceHeader) -> float:
    return math.inf if header.instance_number is None else float(header.instance_number)


def _distances_mm(headers: Sequence[SliceHeader]) -> Float[np.ndarray, " gaps"]:
    return -np.diff(heights_mm(headers))


def _shear_deg(headers: Sequence[SliceHeader]) -> float:
    """Angle between the way the slices go and their normal: gantry tilt."""
    way = np.subtract(headers[0].position_mm, headers[-1].position_mm)
    cosine = float(way @ slice_normal(headers[0])) / max(float(np.linalg.norm(way)), 1e-9)
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
