"""Liver, spleen, kidneys and the smaller organs around them; each grown once a patient, painted in every series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voco2d.data.phantom.canvas import Canvas, Grid, Patch, Point
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import Rotation, capsule, ellipsoid, jitter, rotation, tube
from voco2d.data.phantom.torso import diaphragm
from voco2d.data.phantom.vessels import paint_liver_vessels

LIVER, SPLEEN, LEFT_KIDNEY, RIGHT_KIDNEY, BOWEL = 1, 2, 3, 4, 5
"""Values of RSNA 2023's segmentation masks."""


@dataclass(frozen=True)
class Organ:
    """A solid organ as painted, for the injuries that follow.

    Args:
        label: Its value in the masks.
        center: (S, Y, X).
        semi_mm: Semi-axes along the rows of `rotation`.
        rotation: Rows are the directions of the semi-axes.
        patch: Where it was painted.
        shape: Signed distance in the patch, millimetres.
    """

    label: int
    center: Point
    semi_mm: Point
    rotation: Rotation
    patch: Patch
    shape: Grid


def paint_liver(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, kidneys: Sequence[Organ]) -> Organ:
    """Paint the liver below the right dome and beside the kidneys, its vessels, the gallbladder and sometimes cysts."""
    center = jitter(rng, (78, -2, -62), 3)
    grown = rng.uniform(0.92, 1.08)
    semi = (84 * grown, 68 * grown, 60 * grown)
    left_end = rng.uniform(35, 75)
    patch = canvas.patch((-20, -90, -150), (185, 90, 95))
    right = ellipsoid(patch, center, semi)
    left = ellipsoid(patch, (52, -36, -5), (42, 30, left_end))
    lower = ellipsoid(patch, (center[0] + 45, center[1] + 8, center[2] - 8), (58 * grown, 45, 42))
    shape = np.minimum(np.minimum(right, left), lower) + 2.0 * patch.bump
    shape = _fitted(patch, shape, kidneys)
    share = canvas.paint(patch, shape, tissue["liver"] + 4 * patch.texture)
    canvas.label(patch, share, LIVER)
    paint_liver_vessels(canvas, patch, tissue, rng)
    for _ in range(int(rng.choice(4, p=(0.75, 0.15, 0.07, 0.03)))):
        cyst = jitter(rng, center, 22)
        near = canvas.around(cyst, 14)
        radius = rng.uniform(3, 6)
        outside = np.where(canvas.organs[near.at] == LIVER, np.float32(0), np.float32(1e3))
        canvas.paint(near, ellipsoid(near, cyst, (radius, radius, radius)) + outside, 8.0)
    bladder = jitter(rng, (128, -42, -42), 5)
    near = canvas.around(bladder, 40)
    canvas.paint(near, ellipsoid(near, bladder, (24, 16, 13)), 8.0)
    return Organ(LIVER, center, semi, np.eye(3, dtype=np.float32), patch, shape)


def paint_spleen(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, kidneys: Sequence[Organ]) -> Organ:
    """Paint the spleen, hollow towards the stomach, patchy in the arterial phase."""
    center = jitter(rng, (66, 30, 88), 3)
    grown = rng.uniform(0.88, 1.12)
    semi = (48 * grown, 40 * grown, 25 * grown)
    turn = rotation(rng, 14)
    patch = canvas.around(center, 72)
    hilum = ellipsoid(patch, (center[0], center[1] - 18, center[2] - 40), (44, 36, 27))
    shape = np.maximum(ellipsoid(patch, center, semi, turn), 2 - hilum) + 1.5 * patch.bump
    shape = _fitted(patch, shape, kidneys)
    patchy = 6.0 if tissue.phase == "arterial" else 0.0
    share = canvas.paint(patch, shape, tissue["spleen"] + 4 * patch.texture + patchy * patch.bump)
    canvas.label(patch, share, SPLEEN)
    return Organ(SPLEEN, center, semi, turn, patch, shape)


def paint_kidney(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, label: int) -> Organ:
    """Paint a kidney: cortex, pyramids, the fat of the sinus, sometimes a cyst."""
    side = 1 if label == LEFT_KIDNEY else -1
    center = jitter(rng, (132 if side > 0 else 146, 30, side * 71), 3)
    grown = rng.uniform(0.9, 1.1)
    semi = (54 * grown, 26 * grown, 27 * grown)
    tilt = np.eye(3, dtype=np.float32)
    angle = np.radians(rng.uniform(5, 16)) * side
    tilt[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    patch = canvas.around(center, 88)
    outer = ellipsoid(patch, center, semi, tilt) + 0.8 * patch.bump
    canvas.paint(patch, np.maximum(outer - 14, 1 - patch.cavity), -108.0)
    share = canvas.paint(patch, outer, tissue["cortex"] + 4 * patch.texture)
    canvas.paint(patch, outer + 8 + 2.5 * patch.bump, tissue["medulla"])
    sinus_center = (center[0], center[1] - 5, center[2] - side * 14)
    sinus = ellipsoid(patch, sinus_center, (26 * grown, 10, 15), tilt) + 2.5 * patch.bump
    canvas.paint(patch, sinus, -60.0)
    pelvis = capsule(patch, sinus_center, (center[0] + 22, center[1] - 8, center[2] - side * 30), 5, 3)
    canvas.paint(patch, pelvis, 12.0)
    canvas.label(patch, share, label)
    if rng.random() < 0.15:
        cyst = (center[0] + rng.uniform(-35, 35), center[1] - 8, center[2] + side * 22)
        radius = rng.uniform(4, 9)
        canvas.paint(patch, np.maximum(ellipsoid(patch, cyst, (radius, radius, radius)), 2 - patch.cavity), 6.0)
    return Organ(label, center, semi, tilt, patch, outer)


def paint_small_organs(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator) -> None:
    """Paint pancreas, adrenals, bladder and what lies below it."""
    points: list[Point] = [(126, -20, -32), (112, -26, -12), (104, -22, 14), (92, -4, 48), (84, 12, 68)]
    patch, shape, _ = tube(canvas, points, [12, 11, 9.5, 9, 8], 5)
    canvas.paint(patch, shape + 2.2 * patch.bump, tissue["pancreas"] + 12 * patch.texture)
    for side in (-1, 1):
        patch, shape, _ = tube(canvas, [(82, 22, side * 40), (92, 32, side * 50)], [3.5, 3], 4)
        canvas.paint(patch, shape, tissue["pancreas"])
    fill = rng.uniform(0.6, 1.15)
    center = (378 - 8 * fill, -26.0, 0.0)
    below = canvas.around((405, -8, 0), 60)
    canvas.paint(below, ellipsoid(below, (408, -2, 0), (22, 22, 26)) + 2 * below.bump, 65 + 6 * below.texture)
    bladder = canvas.around(center, 60)
    shape = ellipsoid(bladder, center, (28 * fill, 28 * fill, 36 * fill))
    canvas.paint(bladder, shape - 3, 48.0)
    canvas.paint(bladder, shape, 6.0)


def _fitted(patch: Patch, shape: Grid, kidneys: Sequence[Organ]) -> Grid:
    """Cut an organ's shape to the space below the diaphragm, inside the wall and outside the fat of the kidneys."""
    shape = np.maximum(np.maximum(shape, 0.7 * (diaphragm(patch) + 4 - patch.s)), 2.5 - patch.cavity)
    for kidney in kidneys:
        outside = 4 - ellipsoid(patch, kidney.center, kidney.semi_mm, kidney.rotation) - 0.8 * patch.bump
        shape = np.maximum(shape, outside)
    return shape
