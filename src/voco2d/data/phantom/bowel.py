"""Stomach, colon and small bowel: tubes with a wall, and gas that floats on fluid."""

from collections.abc import Sequence

import numpy as np

from voco2d.data.phantom.canvas import Canvas, Point
from voco2d.data.phantom.organs import BOWEL
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import capsule, ellipsoid, jitter, tube
from voco2d.data.phantom.torso import diaphragm

_GAS_HU = -950.0
_ROWS = 6
_ROW_MM = 27.0
_COLON: tuple[Point, ...] = (
    (268, -8, -84), (225, 0, -97), (180, 6, -98), (152, -8, -90), (150, -40, -68), (165, -55, -35), (175, -58, 5),
    (158, -55, 45), (125, -38, 82), (112, -8, 98), (140, 10, 103), (190, 14, 103), (240, 8, 98), (275, 5, 82),
    (300, -5, 55), (318, 0, 25), (312, 25, -8), (335, 45, 0), (375, 52, 0), (410, 48, 0),
)  # fmt: skip


def paint_stomach(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator) -> None:
    """Paint the stomach with some food, and gas in front."""
    fill = rng.uniform(0.75, 1.1)
    patch = canvas.patch((-10, -95, -45), (150, 60, 125))
    shape = ellipsoid(patch, (58, -14, 56), (44 * fill, 32 * fill, 32 * fill))
    level = -14 + rng.uniform(-24, -6)
    antrum: list[Point] = [(75, -30, 48), (98, -44, 22), (106, -40, -12), (112, -30, -28)]
    for start, end, radius in zip(antrum[:-1], antrum[1:], (20, 15, 10), strict=True):
        shape = np.minimum(shape, capsule(patch, start, end, radius, radius - 4))
    shape = np.maximum(shape + 1.5 * patch.bump, 0.7 * (diaphragm(patch) + 5 - patch.s))
    shape = np.maximum(shape, 3 - patch.cavity)
    canvas.paint(patch, shape, tissue["bowel_wall"])
    content = np.where(patch.y < level, np.float32(_GAS_HU), 25 + 28 * patch.texture)
    canvas.paint(patch, shape + 3.5, content)


def paint_colon(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator) -> None:
    """Paint the colon with haustra, stool and gas."""
    points = _smoothed([jitter(rng, point, 4) for point in _COLON])
    width = rng.uniform(0.8, 1.15)
    phase = rng.uniform(0, 6)
    radii = [float((17 + 3.5 * np.sin(1.9 * i + phase)) * width) for i in range(len(points))]
    patch, shape, height = tube(canvas, points, radii, 6)
    shape = np.maximum(shape + 1.5 * patch.bump, 2 - patch.cavity)
    share = canvas.paint(patch, shape, tissue["bowel_wall"] - 10)
    level = float(rng.uniform(-13, -3)) + 8 * patch.bump
    stool = 15 + 70 * patch.texture - 120 * np.maximum(patch.texture - 1.2, 0)
    canvas.paint(patch, shape + 2.8, np.where(height < level, np.float32(_GAS_HU), stool))
    canvas.label(patch, share, BOWEL)


def paint_small_bowel(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator) -> list[Point]:
    """Paint one long winding tube with enhancing wall, fluid and a little gas.

    Returns:
        The points of its centre line.
    """
    points = _loops(rng)
    collapsed = rng.uniform(0.75, 1.05, len(points))
    radii = [float(11.5 * value) for value in collapsed]
    patch, shape, height = tube(canvas, points, radii, 6)
    shape = np.maximum(shape + 1.6 * patch.bump, 2 - patch.cavity)
    share = canvas.paint(patch, shape, tissue["bowel_wall"])
    folds = 22 + 22 * patch.texture
    gas = height < (-5 + 7 * np.minimum(patch.bump - 0.9, 0.3))
    canvas.paint(patch, shape + 2.6, np.where(gas & (patch.bump > 0.6), np.float32(_GAS_HU), folds))
    canvas.label(patch, share, BOWEL)
    return points


def _loops(rng: np.random.Generator) -> list[Point]:
    """Wind rows of loops from upper left to lower right, as the mesentery holds them."""
    knots: list[Point] = []
    for row in range(_ROWS):
        s = 165 + _ROW_MM * row
        order = np.linspace(74, -68, 6)
        for y, xs in ((-50, order), (-16, order[::-1])):
            for column, x in enumerate(xs):
                swing = 9 if column % 2 else -9
                knots.append((s + swing + rng.uniform(-6, 6), y + rng.uniform(-9, 9), float(x) + rng.uniform(-8, 8)))
    return _smoothed(knots)


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Put two points between each two by a Catmull-Rom spline."""
    line = np.asarray([points[0], *points, points[-1]])
    smooth: list[Point] = []
    for before, start, end, after in zip(line[:-3], line[1:-2], line[2:-1], line[3:], strict=True):
        for t in (0.0, 1 / 3, 2 / 3):
            bent = (
                2 * start
                + (end - before) * t
                + (2 * before - 5 * start + 4 * end - after) * t**2
                + (3 * start - before - 3 * end + after) * t**3
            ) / 2
            smooth.append((float(bent[0]), float(bent[1]), float(bent[2])))
    smooth.append((float(line[-2][0]), float(line[-2][1]), float(line[-2][2])))
    return smooth
