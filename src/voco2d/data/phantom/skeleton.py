"""Spine, ribs, pelvis and hips."""

from itertools import pairwise

import numpy as np

from voco2d.data.phantom.canvas import Canvas, Grid, Number, Patch
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import column, ellipsoid

_VERTEBRA_MM = 33.0
_RIB_MM = 27.0
_COMPACT_HU = 420.0
_NONE = np.float32(0)


def paint_skeleton(canvas: Canvas, tissue: Enhancement) -> None:
    """Paint all bones, over muscle and fat."""
    for chest in canvas.slabs((-250, -140, -200), (150, 120, 200)):
        _paint_ribs(canvas, tissue, chest)
    for spine in canvas.slabs((-250, 10, -75), (430, 120, 75)):
        _paint_spine(canvas, tissue, spine)
    for side in (-1, 1):
        for hip in canvas.slabs((215, -80, min(0, side * 150)), (470, 110, max(0, side * 150))):
            _paint_hip(canvas, tissue, hip, side)


def _bone(canvas: Canvas, tissue: Enhancement, patch: Patch, shape: Grid, shell_mm: Number) -> None:
    shape = np.maximum(shape + 0.7 * patch.bump, 6 - patch.skin)
    canvas.paint(patch, shape, _COMPACT_HU)
    canvas.paint(patch, shape + shell_mm, tissue.physique.bone_hu + 35 * patch.texture)


def _paint_spine(canvas: Canvas, tissue: Enhancement, spine: Patch) -> None:
    bend = (50 - 8 * np.cos((spine.s - 190) / 75)).astype(np.float32)
    sacral = np.clip((spine.s - 250) / 60, 0, 1)
    bend += 15 * sacral
    place = np.mod(spine.s, np.float32(_VERTEBRA_MM)) / np.float32(_VERTEBRA_MM)
    disc = (place < 0.2) & (spine.s < 262)
    gone = np.maximum(spine.s - 375, 0)
    body = column(spine, bend, 0, 15.5 - 3 * sacral, 21.5 + 22 * sacral) + gone
    arch = column(spine, bend + 25, 0, 15, 18 + 8 * sacral) + gone
    spinous = (
        column(spine, bend + 39, 0, 13, 4.5) + np.where((place > 0.45) | (spine.s > 262), _NONE, np.float32(8)) + gone
    )
    wings = column(spine, bend + 20, 0, 5, 42) + np.where((place > 0.3) & (place < 0.65), _NONE, np.float32(12)) + gone
    for part in (arch, spinous, wings):
        _bone(canvas, tissue, spine, part, 2.0)
    canvas.paint(spine, column(spine, bend + 24, 0, 8.5, 10), 22.0)
    _bone(canvas, tissue, spine, body, 2.0)
    canvas.paint(spine, np.where(disc, body + 1, 10), 88.0)


def _paint_ribs(canvas: Canvas, tissue: Enhancement, chest: Patch) -> None:
    slanted = chest.s - 50 * np.arctan2(np.abs(chest.x), chest.y)
    across = np.abs(np.mod(slanted, np.float32(_RIB_MM)) - _RIB_MM / 2) - 6.0
    within = np.abs(chest.cavity + 0.55 * tissue.physique.muscle_mm) - 4.2
    margin = np.maximum(chest.s - 128, chest.s - 62 - 0.8 * (chest.y + 90))
    cartilage = np.maximum((-70 - chest.y) * 0.6, 0)
    ribs = np.maximum(np.maximum(across, within), margin)
    canvas.paint(chest, ribs, np.maximum(_COMPACT_HU - 16 * cartilage, 110))
    canvas.paint(chest, ribs + 2.2, np.maximum(tissue.physique.bone_hu + 30 - 8 * cartilage, 95))


def _paint_hip(canvas: Canvas, tissue: Enhancement, hip: Patch, side: int) -> None:
    down = np.clip((hip.s - 230) / 140, 0, 1)
    rise = np.maximum(228 + 0.0025 * (hip.y - 25) ** 2 - hip.s, hip.s - 372)
    knots = [(66 - 22 * down, 36 + 14 * down), (44 - 14 * down, 84 - 2 * down), (-10 + 22 * down, 120 - 22 * down)]
    plate = np.full(hip.s.shape, 1e3, np.float32)
    for (y0, x0), (y1, x1) in pairwise(knots):
        plate = np.minimum(plate, _segment(hip, side, (y0, x0), (y1, x1)) - (4.5 + 5 * down))
    _bone(canvas, tissue, hip, np.maximum(plate, rise), 2.2)
    socket = ellipsoid(hip, (392, 8, side * 90), (34, 33, 32))
    _bone(canvas, tissue, hip, np.maximum(socket, -ellipsoid(hip, (392, 8, side * 95), (27, 27, 30))), 2.0)
    _bone(canvas, tissue, hip, ellipsoid(hip, (394, 8, side * 95), (24, 24, 24)), 2.5)
    pubis = column(hip, -42, side * 22, 8, 26) + np.maximum(np.abs(hip.s - 425) - 20, 0)
    _bone(canvas, tissue, hip, pubis, 2.0)


def _segment(patch: Patch, side: int, start: tuple[Grid, Grid], end: tuple[Grid, Grid]) -> Grid:
    """Return the in-slice distance to a segment whose ends move from slice to slice."""
    y, x = patch.y - start[0], side * patch.x - start[1]
    dy, dx = end[0] - start[0], end[1] - start[1]
    along = np.clip((y * dy + x * dx) / (dy * dy + dx * dx), 0, 1)
    distance: Grid = np.sqrt((y - along * dy) ** 2 + (x - along * dx) ** 2)
    return distance
