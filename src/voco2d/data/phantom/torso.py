"""Body wall, muscles, lungs and heart, and the table below the patient."""

import numpy as np
from jaxtyping import Float32

from voco2d.data.phantom.canvas import Canvas, Grid, Patch
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import capsule, column, ellipsoid

OneASlice = Float32[np.ndarray, "Z 1 1"]

_KNOTS_S = (-150, 0, 100, 190, 260, 330, 420)
_HALF_WIDTH_MM = (158, 160, 152, 150, 162, 174, 176)
_HALF_DEPTH_MM = (112, 114, 108, 102, 104, 106, 108)
_SQUARENESS = 0.62
"""Between an ellipse (0) and a rectangle (1), as in the squircle of Fernandez-Guasti."""

SKIN_MM = 2.0


def paint_wall(canvas: Canvas, tissue: Enhancement, slices_s: OneASlice) -> None:
    """Paint skin, subcutaneous fat, muscle wall and the fat of the cavity, and set the canvas's cavity depth.

    Args:
        canvas: An empty canvas.
        tissue: Hounsfield units.
        slices_s: (Z, 1, 1) S of each slice, for the outline.
    """
    width, depth = (
        np.interp(slices_s, _KNOTS_S, values).astype(np.float32) for values in (_HALF_WIDTH_MM, _HALF_DEPTH_MM)
    )
    fat = np.interp(slices_s, (-60, 60, 200, 320), (0.55, 0.7, 1.0, 1.25)).astype(np.float32)
    walls = SKIN_MM + np.float32(tissue.physique.fat_mm) * fat
    for slab in canvas.slabs((-1e3, -125, -190), (1e3, 125, 190)):
        slices = slab.at[0]
        slab.skin[...] = _depth(slab, width[slices], depth[slices])
        wall = walls[slices]
        slab.cavity[...] = slab.skin - wall - np.float32(tissue.physique.muscle_mm)
        canvas.paint(slab, -slab.skin, 15.0)
        canvas.paint(slab, SKIN_MM - slab.skin, -104 + 5 * slab.texture)
        canvas.paint(slab, wall - slab.skin + 1.2 * slab.bump, tissue["muscle"] + 9 * slab.texture)
        stranding = np.maximum(slab.texture - np.float32(0.9), 0) * 55
        canvas.paint(slab, -slab.cavity + 1.5 * slab.bump, -106 + stranding)


def _depth(patch: Patch, width: OneASlice, depth: OneASlice) -> Grid:
    """Return the depth below a rounded rectangle's outline, along the ray to its centre."""
    u, v = (patch.x / width) ** 2, (patch.y / depth) ** 2
    total = u + v
    level = np.sqrt(0.5 * (total + np.sqrt(total * total - np.float32(4 * _SQUARENESS**2) * u * v)))
    radius = np.sqrt(patch.x**2 + patch.y**2)
    below: Grid = radius * (1 / (level + np.float32(1e-4)) - 1) + np.float32(1e-3)
    return below


def paint_muscles(canvas: Canvas, tissue: Enhancement) -> None:
    """Paint the muscles of the back, the psoas and the buttocks."""
    for side in (-1, 1):
        back = canvas.patch((-200, 35, min(side * 5, side * 80)), (520, 120, max(side * 5, side * 80)))
        _flesh(canvas, tissue, back, column(back, 76, side * 36, 17, 31))
        quadratus = canvas.patch((90, 35, min(side * 45, side * 95)), (240, 90, max(side * 45, side * 95)))
        _flesh(canvas, tissue, quadratus, column(quadratus, 62, side * 68, 10, 17))
        psoas = canvas.patch((110, -30, min(side * 5, side * 100)), (400, 80, max(side * 5, side * 100)))
        grown = np.clip((psoas.s - 110) / 120, 0.05, 1)
        drift = np.clip((psoas.s - 220) / 160, 0, 1)
        _flesh(canvas, tissue, psoas, column(psoas, 42 - 45 * drift, side * 42, 19 * grown, 16 * grown) + 14 * drift)
        buttock = canvas.patch((255, 20, min(side * 15, side * 150)), (520, 120, max(side * 15, side * 150)))
        shrink = np.clip((300 - buttock.s) / 40, 0, 1) * 30
        _flesh(canvas, tissue, buttock, column(buttock, 72, side * 80, 26, 58) + shrink)


def diaphragm(patch: Patch) -> Grid:
    """Return S of the diaphragm above each voxel: two domes that fall off to the sides and the back."""
    back = ((patch.y + 15) / 90) ** 2 * 72
    right = ((patch.x + 72) / 75) ** 2 * 60 + back
    left = ((patch.x - 74) / 75) ** 2 * 60 + back + 16
    lowest: Grid = np.minimum(np.minimum(right, left), np.float32(110))
    return lowest


def paint_chest(canvas: Canvas, tissue: Enhancement) -> None:
    """Paint the lungs above the diaphragm, the space between them and the heart."""
    chest = canvas.patch((-250, -150, -180), (112, 150, 180))
    dome = diaphragm(chest)
    lungs = np.maximum(chest.s - dome, 3 - chest.cavity)
    vessels = np.maximum(chest.texture - np.float32(1.5), 0) * 260
    canvas.paint(chest, np.abs(lungs + 1.5) - 2.0, 55.0)
    canvas.paint(chest, lungs, -850 + 22 * chest.bump + vessels)
    middle = column(chest, -10, 4, 95, 24) + 2 * chest.bump
    canvas.paint(chest, np.maximum(middle, chest.s - dome - 2), -60 + 25 * chest.texture)
    heart = canvas.around((-42, -32, 20), (62, 56, 66))
    outer = ellipsoid(heart, (-42, -32, 20), (55, 46, 56)) + 1.5 * heart.bump
    canvas.paint(heart, outer - 5, -85.0)
    canvas.paint(heart, outer, tissue["myocardium"])
    left_side = capsule(heart, (-50, -18, 34), (-22, -38, 48), 20, 15)
    right_side = capsule(heart, (-50, -50, 0), (-20, -48, 15), 19, 15)
    canvas.paint(heart, left_side, 0.9 * tissue["artery"])
    canvas.paint(heart, right_side, 0.5 * (tissue["artery"] + tissue["vein"]))


def paint_table(canvas: Canvas, y: Float32[np.ndarray, "1 H 1"], x: Float32[np.ndarray, "1 1 W"]) -> None:
    """Paint the curved table top below the patient; it knows no warp, as it isn't part of the patient.

    Args:
        canvas: What to paint.
        y: (1, H, 1) unwarped Y of the rows.
        x: (1, 1, W) unwarped X of the columns.
    """
    part = canvas.patch((-1e3, 80, -1e3), (1e3, 1e3, 1e3))
    y, x = y[:, part.at[1]], x[:, :, part.at[2]]
    foam = np.maximum(np.abs(y - (138 - (x / 210) ** 2 * 40) - 14) - 13, np.abs(x) - 205)
    shell = np.maximum(np.abs(foam) - 1.2, np.abs(x) - 205)
    for shape, hu in ((foam, -930.0), (shell, 60.0)):
        canvas.paint(part, np.broadcast_to(shape, part.s.shape), hu)


def _flesh(canvas: Canvas, tissue: Enhancement, patch: Patch, shape: Grid) -> None:
    shape = np.maximum(shape + 1.2 * patch.bump, 5 - patch.skin)
    canvas.paint(patch, shape, tissue["muscle"] + 8 * patch.texture)
