"""The radiological signs of injury, painted over healthy anatomy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voco2d.data.phantom.canvas import Canvas, Point
from voco2d.data.phantom.labels import Grades
from voco2d.data.phantom.organs import LEFT_KIDNEY, LIVER, RIGHT_KIDNEY, SPLEEN, Organ
from voco2d.data.phantom.physique import Enhancement
from voco2d.data.phantom.shapes import capsule, ellipsoid, tube
from voco2d.data.phantom.torso import diaphragm
from voco2d.targets import TARGETS

HIGH_GRADE = 2
SIGN: Mapping[str, int] = {name: index for index, name in enumerate(TARGETS, start=1)}
"""Value that marks each target's signs in a phantom's `signs` array."""


@dataclass(frozen=True)
class _Wound:
    """How an organ is torn.

    Args:
        radius_mm: Half the width of a laceration.
        length_mm: Its length.
        layer_mm: Extent of a high grade's haematoma below (negative) and above the organ's surface.
        reach_mm: Radius of the ball that limits that haematoma; a low grade's reaches 0.7 times as far.
        thin_mm: Extent of a low grade's haematoma, if there is one.
    """

    radius_mm: float
    length_mm: float
    layer_mm: tuple[float, float]
    reach_mm: float
    thin_mm: tuple[float, float] | None


_WOUNDS: Mapping[int, _Wound] = {
    LIVER: _Wound(12.0, 74.0, (-24.0, 1.0), 80.0, None),
    SPLEEN: _Wound(12.0, 64.0, (-10.0, 22.0), 74.0, (-11.0, 3.0)),
    LEFT_KIDNEY: _Wound(11.0, 54.0, (0.0, 25.0), 66.0, (0.0, 11.0)),
    RIGHT_KIDNEY: _Wound(11.0, 54.0, (0.0, 25.0), 66.0, (0.0, 11.0)),
}
_CLOT_HU = 50.0


def paint_injuries(
    canvas: Canvas,
    tissue: Enhancement,
    rng: np.random.Generator,
    grades: Grades,
    organs: Mapping[str, Sequence[Organ]],
    loops: Sequence[Point],
    scale: float,
) -> None:
    """Paint the sign of each injury and mark its voxels.

    Args:
        canvas: Holds the healthy anatomy.
        tissue: Hounsfield units.
        rng: Source of randomness; each target has a stream of its own.
        grades: Class index of each target.
        organs: Target name -> the organs that may be torn; one of them is.
        loops: Centre line of the small bowel.
        scale: Factor on every extent.
    """
    streams = dict(zip(SIGN, rng.spawn(len(SIGN)), strict=True))
    torn: list[Organ] = []
    for name, choices in organs.items():
        organ = choices[int(streams[name].integers(len(choices)))]
        if grades[name]:
            _tear(canvas, tissue, streams[name], organ, grades[name], scale, SIGN[name])
            torn.append(organ)
    if grades["bowel"]:
        _perforate(canvas, tissue, streams["bowel"], loops, scale)
    if grades["extravasation"]:
        _bleed(canvas, tissue, streams["extravasation"], torn, scale)


def _tear(
    canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, organ: Organ, grade: int, scale: float, sign: int
) -> None:
    wound = _WOUNDS[organ.label]
    parenchyma = {LIVER: "liver", SPLEEN: "spleen"}.get(organ.label, "cortex")
    hu = min(tissue[parenchyma] - rng.uniform(50, 66), _CLOT_HU)
    high = grade == HIGH_GRADE
    if high:
        _devascularise(canvas, rng, organ, hu + 6, sign)
        _swell(canvas, rng, organ, wound.layer_mm, wound.reach_mm, scale, sign)
    elif wound.thin_mm:
        _swell(canvas, rng, organ, wound.thin_mm, 0.7 * wound.reach_mm, scale, sign)
    for _ in range(3 if high else 1):
        _lacerate(canvas, rng, organ, wound, hu, scale * (1.15 if high else 1.0), sign)


def _lacerate(
    canvas: Canvas, rng: np.random.Generator, organ: Organ, wound: _Wound, hu: float, scale: float, sign: int
) -> None:
    """Tear a cleft from near the surface inward: a plate that stands along S, with one branch."""
    direction = _direction(rng, organ)
    middle = _on(organ, direction, rng.uniform(0.5, 0.72))
    outward = direction * np.asarray(organ.semi_mm) @ organ.rotation
    course = outward / np.linalg.norm(outward) + 0.7 * rng.standard_normal(3) * (0.6, 1, 1)
    half = course / np.linalg.norm(course) * wound.length_mm * scale / 2
    start, end = _point(middle + half), _point(middle - half)
    radius = wound.radius_mm * scale * rng.uniform(0.9, 1.1)
    patch = organ.patch
    cleft = capsule(patch, start, end, radius * 1.1, radius * 0.75)
    for rise in (-1.3 * radius, 1.3 * radius):
        up = (rise, 0.0, 0.0)
        cleft = np.minimum(
            cleft, capsule(patch, _point(middle + half + up), _point(middle - half + up), radius, 0.65 * radius)
        )
    twig = _point(middle + rng.standard_normal(3) * wound.length_mm * scale * 0.25)
    cleft = np.minimum(cleft, capsule(patch, _point(middle), twig, radius * 0.8, radius * 0.5))
    share = canvas.paint(patch, np.maximum(cleft + 2.0 * patch.bump, organ.shape), hu + 3 * patch.texture)
    canvas.mark(patch, share, sign)


def _devascularise(canvas: Canvas, rng: np.random.Generator, organ: Organ, hu: float, sign: int) -> None:
    """Take the contrast from a part of the organ beyond a plane."""
    direction = _direction(rng, organ)
    normal = direction / np.asarray(organ.semi_mm) @ organ.rotation
    normal = normal / np.linalg.norm(normal)
    root = _on(organ, direction, 0.3)
    patch = organ.patch
    beyond = -sum(
        np.float32(n) * (coordinate - np.float32(r))
        for n, coordinate, r in zip(normal, (patch.s, patch.y, patch.x), root, strict=True)
    )
    share = canvas.paint(patch, np.maximum(beyond + 4 * patch.bump, organ.shape), hu + 5 * patch.texture)
    canvas.mark(patch, share, sign)


def _swell(
    canvas: Canvas,
    rng: np.random.Generator,
    organ: Organ,
    layer_mm: tuple[float, float],
    reach_mm: float,
    scale: float,
    sign: int,
) -> None:
    """Lay a crescent of clotted blood along the organ's surface."""
    side = _on(organ, _direction(rng, organ), 0.9)
    patch = organ.patch
    inner, outer = (edge * scale for edge in layer_mm)
    layer = np.abs(organ.shape - (inner + outer) / 2) - (outer - inner) / 2
    reach = reach_mm * scale
    near = ellipsoid(patch, _point(side), (reach, reach, reach))
    space = np.maximum(2 - patch.cavity, diaphragm(patch) + 2 - patch.s)
    shape = np.maximum(np.maximum(layer + 1.5 * patch.bump, near), space)
    share = canvas.paint(patch, shape, _CLOT_HU + 6 * patch.texture)
    canvas.mark(patch, share, sign)


def _perforate(
    canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, loops: Sequence[Point], scale: float
) -> None:
    """Put free air below the abdominal wall, thicken the wall of a loop and add a little free fluid."""
    sign = SIGN["bowel"]
    gutter: Point = (rng.uniform(185, 215), 18.0, float(rng.choice((-1, 1))) * 96)
    fluid = canvas.around(gutter, (50, 20, 22))
    in_fat = np.where(canvas.hu[fluid.at] > -50, np.float32(1e3), 0)
    canvas.paint(fluid, ellipsoid(fluid, gutter, (44 * scale, 17, 18)) + in_fat + 2 * fluid.bump, 12.0)

    inside = [index for index, point in enumerate(loops) if 160 < point[0] < 235 and 4 <= index < len(loops) - 4]
    first = inside[int(rng.integers(len(inside)))] - 4
    swollen = list(loops[first : first + 8])
    patch, shape, _ = tube(canvas, swollen, [19.0 * scale] * len(swollen), 6)
    shape = np.maximum(shape + 1.5 * patch.bump, 1 - patch.cavity)
    share = canvas.paint(patch, shape, tissue["bowel_wall"] - 10 + 5 * patch.texture)
    canvas.paint(patch, shape + 11 * scale, 18.0)
    canvas.mark(patch, share, sign)

    center: Point = (rng.uniform(60, 150), -70.0, rng.uniform(-35, 35))
    half_length, half_width, depth = (rng.uniform(*span) * scale for span in ((48, 75), (45, 68), (24, 36)))
    air = canvas.around(center, (half_length, 60, half_width))
    spread = ((air.s - center[0]) / half_length) ** 2 + ((air.x - center[2]) / half_width) ** 2
    dome = depth * np.sqrt(np.maximum(1 - spread, 0)) - 20 * np.maximum(spread - 1, 0)
    shape = np.maximum(np.maximum(0.5 - air.cavity, air.cavity - dome), air.y + 25)
    share = canvas.paint(air, shape, -940.0)
    canvas.mark(air, share, sign)


def _bleed(canvas: Canvas, tissue: Enhancement, rng: np.random.Generator, torn: Sequence[Organ], scale: float) -> None:
    """Put a blush of contrast in a haematoma beside a torn organ or in the mesentery; it grows by the portal phase."""
    side = float(rng.choice((-1, 1)))
    mesentery: Point = (rng.uniform(155, 225), rng.uniform(-42, -8), rng.uniform(-60, 60))
    flank: Point = (rng.uniform(195, 230), rng.uniform(22, 36), side * rng.uniform(70, 92))
    sites = [mesentery, flank]
    if torn:
        organ = torn[int(rng.integers(len(torn)))]
        sites = [_point(_on(organ, _direction(rng, organ), 0.95)), *sites]
    site = sites[0] if torn and rng.random() < 0.4 else sites[-1 - int(rng.integers(2))]
    grown = (1.25 if tissue.phase == "portal" else 1.0) * scale
    radius = rng.uniform(15, 20) * grown
    patch = canvas.around(site, 2.9 * radius)
    blood = ellipsoid(patch, site, (2.1 * radius, 1.6 * radius, 1.9 * radius)) + 3 * patch.bump
    canvas.paint(patch, np.maximum(blood, 1 - patch.cavity), _CLOT_HU + 6 * patch.texture)
    blush = ellipsoid(patch, site, (1.5 * radius, radius, radius))
    for _ in range(2):
        arm = _point(np.asarray(site) + rng.uniform(-1, 1, 3) * radius)
        blush = np.minimum(blush, ellipsoid(patch, arm, (0.7 * radius,) * 3))
    share = canvas.paint(patch, blush + 1.5 * patch.bump, tissue["blush"] + 25 * patch.texture)
    canvas.mark(patch, share, SIGN["extravasation"])


def _direction(rng: np.random.Generator, organ: Organ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Draw a direction in the organ's unit ball that points to a free surface, not to its poles or inner side."""
    lateral = 1.0 if organ.label in (SPLEEN, LEFT_KIDNEY) else -1.0
    s, y = rng.uniform(-0.55, 0.55), rng.uniform(-0.8, 0.8)
    vector = np.array([s, y, lateral * rng.uniform(0.55, 1.0)])
    unit: np.ndarray[tuple[int], np.dtype[np.float64]] = vector / np.linalg.norm(vector)
    return unit


def _on(
    organ: Organ, direction: np.ndarray[tuple[int], np.dtype[np.float64]], share: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the point at a share of the way from the organ's centre to its surface."""
    point: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        np.asarray(organ.center) + (share * direction * np.asarray(organ.semi_mm)) @ organ.rotation
    )
    return point


def _point(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
