"""Signed distances, millimetres and negative inside, of the few solids the anatomy is made of."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from voco2d.data.phantom.canvas import Canvas, Grid, Number, Patch, Point

Rotation = Float32[np.ndarray, "3 3"]

_TINY = np.float32(1e-3)


def ellipsoid(patch: Patch, center: Point, semi_mm: Point, rotation: Rotation | None = None) -> Grid:
    """Return the distance to an ellipsoid, exact to first order near its surface.

    Args:
        patch: Where.
        center: (S, Y, X).
        semi_mm: Semi-axes along (S, Y, X), or along the rows of `rotation`.
        rotation: Rows are the directions of the semi-axes.
    """
    s, y, x = patch.s - np.float32(center[0]), patch.y - np.float32(center[1]), patch.x - np.float32(center[2])
    if rotation is not None:
        s, y, x = (row[0] * s + row[1] * y + row[2] * x for row in rotation)
    a, b, c = (np.float32(1 / semi) for semi in semi_mm)
    s, y, x = s * a, y * b, x * c
    level = np.sqrt(s * s + y * y + x * x)
    slope = np.sqrt((s * a) ** 2 + (y * b) ** 2 + (x * c) ** 2)
    # At the very centre both vanish; their ratio there is the shortest semi-axis.
    distance: Grid = (level + _TINY) * (level - 1) / (slope + _TINY * max(a, b, c))
    return distance


def column(
    patch: Patch, center_y: Number | Grid, center_x: Number, semi_y: Number | Grid, semi_x: Number | Grid
) -> Grid:
    """Return the distance to an elliptic cylinder along S; rough, exact for a circle."""
    y = (patch.y - center_y) / semi_y
    x = (patch.x - np.float32(center_x)) / semi_x
    level = np.sqrt(y * y + x * x)
    distance: Grid = ((level - 1) * np.sqrt(np.asarray(semi_y * semi_x, np.float32))).astype(np.float32, copy=False)
    return distance


def capsule(patch: Patch, start: Point, end: Point, radius_start: Number, radius_end: Number | None = None) -> Grid:
    """Return the distance to a straight round piece of tube with round ends."""
    return _capsule(patch, start, end, radius_start, radius_start if radius_end is None else radius_end)[0]


def tube(
    canvas: Canvas, points: Sequence[Point], radii: Sequence[Number], reach_mm: Number
) -> tuple[Patch, Grid, Grid]:
    """Join capsules through a line of points.

    Args:
        canvas: What will be painted.
        points: The centre line.
        radii: Radius at each point.
        reach_mm: How far outside the tube the distance is still needed.

    Returns:
        A patch around the tube; the distance to its surface; and Y relative to the nearest centre.
    """
    far = float(max(radii)) + reach_mm
    whole = canvas.patch(*_corners(points, far))
    shape: Grid = np.full(whole.s.shape, 1e3, np.float32)
    height: Grid = np.zeros(whole.s.shape, np.float32)
    for start, end, radius_start, radius_end in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        part = canvas.patch(*_corners((start, end), far))
        distance, above = _capsule(part, start, end, radius_start, radius_end)
        inside = whole.within(part)
        nearer = distance < shape[inside]
        np.copyto(shape[inside], distance, where=nearer)
        np.copyto(height[inside], above, where=nearer)
    return whole, shape, height


def rotation(rng: np.random.Generator, largest_degrees: Number) -> Rotation:
    """Draw small turns about the three axes."""
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = np.radians(rng.uniform(-largest_degrees, largest_degrees))
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix.astype(np.float32)


def jitter(rng: np.random.Generator, center: Point, deviation_mm: Number) -> Point:
    """Move a point at random, by at most twice the deviation along each axis."""
    moved = np.asarray(center) + np.clip(rng.standard_normal(3), -2, 2) * deviation_mm
    return float(moved[0]), float(moved[1]), float(moved[2])


def _corners(points: Sequence[Point], far: float) -> tuple[Point, Point]:
    s, y, x = zip(*points, strict=True)
    return (min(s) - far, min(y) - far, min(x) - far), (max(s) + far, max(y) + far, max(x) + far)


def _capsule(patch: Patch, start: Point, end: Point, radius_start: Number, radius_end: Number) -> tuple[Grid, Grid]:
    axis = np.subtract(end, start).astype(np.float32)
    s, y, x = (
        coordinate - np.float32(value) for coordinate, value in zip((patch.s, patch.y, patch.x), start, strict=True)
    )
    along = np.clip((s * axis[0] + y * axis[1] + x * axis[2]) / (np.float32(axis @ axis) + _TINY), 0, 1)
    s, y, x = s - along * axis[0], y - along * axis[1], x - along * axis[2]
    radius = np.float32(radius_start) + along * np.float32(radius_end - radius_start)
    distance: Grid = np.sqrt(s * s + y * y + x * x) - radius
    return distance, y
