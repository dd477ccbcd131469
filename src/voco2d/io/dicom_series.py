"""Puts the slices of one DICOM series in order by their position along the slice normal, and says what is odd."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Float

from voco2d.io.dicom_header import SliceHeader
from voco2d.io.orientation import Affine
from voco2d.io.source import Rejection

MAX_AXIAL_TILT_DEG = 30.0
"""Slices whose normal is further than this from the body's long axis are not axial."""

NOTABLE_DEG = 0.5
"""Smaller tilts are rounding of the header, unless they add up to more than a pixel (`is_tilted`)."""

SAME_POSITION_MM = 0.01
_SAME_COSINE = 0.01
_SAME_SPACING = 0.01
_UNEVEN_SHARE = 0.1
_UNEVEN_MM = 0.05
_MAX_LEANING = 200
_GAP_SHARE = 0.25
_GAP_RUN = 2


def slice_normal(header: SliceHeader) -> Float[np.ndarray, "3"]:
    """Unit normal of a slice in LPS, on the superior side."""
    return np.array(_normal(header.orientation))


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


def heights_mm(headers: Sequence[SliceHeader], reference: SliceHeader | None = None) -> Float[np.ndarray, " slices"]:
    """Position of each slice along the superior normal of `reference`, by default the first, millimetres."""
    positions = np.array([header.position_mm for header in headers])
    return np.asarray(positions @ slice_normal(reference or headers[0]))


def stack_affine(headers: Sequence[SliceHeader], step_mm: float | None = None) -> Affine:
    """(4, 4) map from (slice, row, column) to LPS millimetres; slices stand from superior to inferior.

    With the median as slice distance the map is exact in each plane and, where distances are uneven, approximate
    along the stack.

    Args:
        headers: Slices of one orientation.
        step_mm: Slice distance; the median distance when None.
    """
    first = headers[0]
    across, down = np.reshape(first.orientation, (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = -slice_normal(first) * (usual_distance_mm(headers) if step_mm is None else step_mm)
    affine[:3, 1] = down * first.pixel_spacing_mm[0]
    affine[:3, 2] = across * first.pixel_spacing_mm[1]
    affine[:3, 3] = first.position_mm
    return affine


def usual_distance_mm(headers: Sequence[SliceHeader]) -> float:
    """Median distance of neighbouring slices along their normal; of two middle ones the smaller."""
    return _usual(_distances_mm(headers))


def is_uneven(headers: Sequence[SliceHeader]) -> bool:
    """Whether some distance differs from the usual one by more than a tenth."""
    return bool(_odd(_distances_mm(headers)).any())


def extent_mm(headers: Sequence[SliceHeader]) -> float:
    """Distance along the normal from the first slice to the last."""
    return float(_distances_mm(headers).sum())


def lean(headers: Sequence[SliceHeader]) -> Float[np.ndarray, "3"]:
    """How far the first pixel moves in LPS for each millimetre along the superior normal.

    The median over all pairs of slices (Theil and Sen), so that it holds while under 29 % of the slices are displaced,
    wherever they stand. Of long stacks evenly spread slices are looked at.

    Args:
        headers: Slices of one orientation in any order, at two positions or more.
    """
    order = np.argsort(heights_mm(headers), kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _MAX_LEANING)).astype(int))]
    places = np.array([header.position_mm for header in headers])[order]
    heights = heights_mm(headers)[order]
    low, high = np.triu_indices(len(order), 1)
    rises = heights[high] - heights[low]
    apart = rises > SAME_POSITION_MM
    return np.asarray(np.median((places[high] - places[low])[apart] / rises[apart, None], axis=0))


def tilt_deg(headers: Sequence[SliceHeader]) -> float:
    """Gantry tilt: angle between the way most slices go (`lean`) and their normal, degrees."""
    normal = slice_normal(headers[0])
    way = lean(headers)
    return math.degrees(math.atan(float(np.linalg.norm(way - (way @ normal) * normal))))


def is_tilted(headers: Sequence[SliceHeader]) -> bool:
    """Whether the tilt is beyond `NOTABLE_DEG`, or moves the last slice by more than a pixel against the first."""
    tilt = tilt_deg(headers)
    drift_mm = math.tan(math.radians(tilt)) * extent_mm(headers)
    return tilt > NOTABLE_DEG or drift_mm > max(headers[0].pixel_spacing_mm)


def stack_notes(headers: Sequence[SliceHeader]) -> list[str]:
    """Say what is odd about slices that stand from superior to inferior, apart from a tilt.

    Distances of about a whole multiple of the usual one are a gap, as missing slices leave it, while they are few: one,
    two of five or more, or a quarter, and no three in a row. Other odd distances are uneven, a change of the slice
    distance midway among them.
    """
    distances = _distances_mm(headers)
    usual = _usual(distances)
    odd = _odd(distances)
    notes = []
    if odd.any():
        missing = int(np.sum(np.rint(distances[odd] / usual) - 1)) if _are_gaps(distances, odd) else 0
        span = f"slice distances {distances.min():.4g} to {distances.max():.4g} mm where {usual:.4g} mm is usual"
        count = np.count_nonzero(odd)
        notes.append(f"gap: {span}, {count} odd, {missing} missing" if missing else f"uneven: {span}, {count} odd")
    if axial_tilt_deg(headers[0]) > NOTABLE_DEG and not is_tilted(headers):
        notes.append(f"oblique: {axial_tilt_deg(headers[0]):.1f} deg")
    if not all(header.has_rescale for header in headers):
        notes.append("no rescale: RescaleIntercept is missing, stored values taken as HU")
    return notes


def commonest(rejections: Sequence[Rejection]) -> str:
    """Most frequent reason."""
    return Counter(rejection.reason for rejection in rejections).most_common(1)[0][0]


def difference(header: SliceHeader, other: SliceHeader) -> str | None:
    """Say what keeps two slices from standing in one array, or `None`."""
    if header.shape != other.shape:
        return "matrix size"
    if header.orientation == other.orientation and header.pixel_spacing_mm == other.pixel_spacing_mm:
        return None  # as nearly always; the following takes longer than to read the header
    if not np.allclose(header.orientation, other.orientation, rtol=0, atol=_SAME_COSINE):
        return "orientation"
    if not np.allclose(header.pixel_spacing_mm, other.pixel_spacing_mm, rtol=_SAME_SPACING, atol=0):
        return "pixel spacing"
    return None


@lru_cache(maxsize=256)
def _normal(orientation: tuple[float, ...]) -> tuple[float, ...]:
    across, down = np.reshape(orientation, (2, 3))
    normal = np.cross(across, down)
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    return tuple(float(value) for value in (normal if normal[2] >= 0 else -normal))


def _instance(header: SliceHeader) -> float:
    return math.inf if header.instance_number is None else float(header.instance_number)


def _distances_mm(headers: Sequence[SliceHeader]) -> Float[np.ndarray, " gaps"]:
    return -np.diff(heights_mm(headers))


def _usual(distances_mm: Float[np.ndarray, " gaps"]) -> float:
    # the mean of two middle distances might be one that occurs nowhere
    return float(np.sort(distances_mm)[(len(distances_mm) - 1) // 2])


def _are_gaps(distances_mm: Float[np.ndarray, " gaps"], odd: Bool[np.ndarray, " gaps"]) -> bool:
    count = int(np.count_nonzero(odd))
    in_a_row = max(len(list(run)) for is_odd, run in groupby(odd) if is_odd)
    few = count == 1 or (count <= max(_GAP_RUN, _GAP_SHARE * len(odd)) and 2 * count < len(odd))
    return few and in_a_row <= _GAP_RUN and bool(np.all(_is_whole(distances_mm[odd] / _usual(distances_mm))))


def _odd(distances_mm: Float[np.ndarray, " gaps"]) -> Bool[np.ndarray, " gaps"]:
    usual = _usual(distances_mm)
    return np.asarray(np.abs(distances_mm - usual) > max(_UNEVEN_SHARE * usual, _UNEVEN_MM))


def _is_whole(multiples: Float[np.ndarray, " gaps"]) -> Bool[np.ndarray, " gaps"]:
    return np.asarray((multiples > 1.5) & (np.abs(multiples - np.rint(multiples)) < _UNEVEN_SHARE * multiples))
