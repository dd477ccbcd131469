"""Aorta, caval vein and their larger branches."""

import numpy as np

from voco2d.data.phantom.canvas import Canvas, Number, Patch, Point
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import tube

AORTA: tuple[Point, ...] = ((-190, 34, 22), (-60, 34, 20), (60, 24, 8), (150, 14, 6), (232, 14, 4))
_CAVA: tuple[Point, ...] = ((-25, 12, -22), (60, 16, -24), (150, 16, -19), (238, 18, -16))
_PORTAL: tuple[Point, ...] = ((112, -12, 2), (92, -14, -28), (78, -10, -52), (64, 8, -78))
_SPLENIC: tuple[Point, ...] = ((108, -10, 4), (92, 4, 40), (78, 22, 72))
_MESENTERIC: tuple[Point, ...] = ((112, -14, 2), (150, -24, 0), (205, -28, -18), (235, -25, -35))
_FAINT = 0.35
"""Share of the liver's own value in its vessels, which are thinner than a slice."""


def paint_vessels(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator) -> None:
    """Paint the large vessels and small branches fanning out in the mesentery."""
    calibre = rng.uniform(0.85, 1.15)
    artery, vein, portal = tissue["artery"], tissue["vein"], tissue["portal_vein"]
    for side in (-1, 1):
        _vessel(canvas, [(232, 14, 2), (275, 30, side * 32), (345, 12, side * 62), (420, -38, side * 66)], 6.0, artery)
        _vessel(canvas, [(238, 18, -10), (280, 38, side * 34), (345, 22, side * 58), (420, -32, side * 54)], 6.5, vein)
        _vessel(canvas, [(138, 14, 2), (140, 28, side * 52)], 3.2, artery)
        _vessel(canvas, [(141, 10, -10), (142, 24, side * 54)], 4.5, vein)
    _vessel(canvas, _MESENTERIC, 5.0, portal)
    _vessel(canvas, [(105, 10, 8), (125, -14, 9), (180, -28, 4), (230, -28, -20)], 3.8, artery)
    _vessel(canvas, _SPLENIC, 4.5, portal)
    for _ in range(14):
        start = (rng.uniform(140, 220), -26.0, rng.uniform(-12, 6))
        end = (start[0] + rng.uniform(5, 70), rng.uniform(-60, 0), rng.uniform(-85, 85))
        _vessel(canvas, [start, end], 1.8, 0.5 * (artery + portal) * 0.8)
    _vessel(canvas, _CAVA, 11.0 * calibre, vein)
    patch, shape, _ = tube(canvas, AORTA, [12.5 * calibre, 12 * calibre, 11 * calibre, 9.5, 8.5], 3)
    canvas.paint(patch, shape - 1.2, 55.0)
    canvas.paint(patch, shape, artery)


def paint_liver_vessels(canvas: Canvas, liver: Patch, tissue: Enhancement, rng: np.random.Generator) -> None:
    """Paint the portal tree, and the hepatic veins where they lie in the liver.

    Args:
        canvas: Holds the liver already.
        liver: Where the liver was painted.
        tissue: Hounsfield units.
        rng: Source of randomness.
    """
    outside = canvas.organs[liver.at] == 0
    before = canvas.hu[liver.at].copy()
    portal = (1 - _FAINT) * tissue["portal_vein"] + _FAINT * tissue["liver"]
    hepatic = (1 - _FAINT) * tissue["vein"] + _FAINT * tissue["liver"]
    _vessel(canvas, _PORTAL, 6.0, portal)
    for _ in range(7):
        start = _PORTAL[int(rng.integers(1, 4))]
        end = (rng.uniform(20, 135), rng.uniform(-50, 45), rng.uniform(-108, -50))
        _vessel(canvas, [start, end], 3.2, portal)
    for end in ((45, 30, -85), (38, -30, -70), (42, -48, -15)):
        _vessel(canvas, [(12, 8, -24), end], 4.2, hepatic)
    np.copyto(canvas.hu[liver.at], before, where=outside)


def _vessel(canvas: Canvas, points: tuple[Point, ...] | list[Point], radius: Number, hu: Number) -> None:
    patch, shape, _ = tube(canvas, points, [radius] * len(points), 3)
    canvas.paint(patch, shape, hu)
