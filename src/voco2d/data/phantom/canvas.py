"""The volume being painted: warped patient coordinates on a scan grid, and soft-edged shapes laid over each other.

Coordinates are millimetres of a standard patient: S grows from the liver's dome to the feet, Y to the back, X to the
patient's left. A shape is an array of signed distances, millimetres, negative inside.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from voco2d.data.phantom.fields import Axis, SmoothField

Grid = Float32[np.ndarray, "Z H W"]
Number = float | int
Point = tuple[Number, Number, Number]
"""(S, Y, X), standard-patient millimetres."""

_WARP_MARGIN_MM = (22.0, 18.0, 18.0)
_FAR_MM = np.float32(1e3)
_SLAB = 4


@dataclass(frozen=True)
class Deformation:
    """What makes one patient's shape differ from the standard patient's.

    Args:
        warp: Displacement fields of S, Y and X.
        bump: Field of unit deviation that roughens surfaces.
        texture: Finer field of unit deviation for parenchyma and fat.
    """

    warp: tuple[SmoothField, SmoothField, SmoothField]
    bump: SmoothField
    texture: SmoothField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Deformation":
        """Draw one patient's fields."""
        s, y, x = (SmoothField(rng, 85.0, amplitude) for amplitude in (6.0, 4.5, 4.5))
        return cls((s, y, x), SmoothField(rng, 17.0, 1.0), SmoothField(rng, 8.0, 1.0))


@dataclass(frozen=True)
class Patch:
    """A box of the canvas: views of its coordinates and fields, each (Z, H, W).

    Args:
        at: The box as slices into the canvas.
        s: Warped S of each voxel.
        y: Warped Y of each voxel.
        x: Warped X of each voxel.
        skin: Depth below the skin, millimetres; negative outside the patient.
        cavity: Depth below the inner surface of the body wall, millimetres; negative in the wall.
        bump: Roughness field.
        texture: Texture field.
    """

    at: tuple[slice, slice, slice]
    s: Grid
    y: Grid
    x: Grid
    skin: Grid
    cavity: Grid
    bump: Grid
    texture: Grid

    def within(self, part: "Patch") -> tuple[slice, slice, slice]:
        """Return where the smaller patch `part` lies in this one."""
        a, b, c = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip(part.at, self.at, strict=True)
        )
        return a, b, c


class Canvas:
    """Hounsfield units, organ labels and injury marks of one series while it is painted.

    Args:
        s: Unwarped S of the slices, increasing.
        y: Unwarped Y of the rows, increasing.
        x: Unwarped X of the columns, increasing.
        deformation: The patient's own shape.
    """

    def __init__(self, s: Axis, y: Axis, x: Axis, deformation: Deformation) -> None:
        self._axes = (s, y, x)
        grid = (s, y, x)
        self.s: Grid = s[:, None, None] + deformation.warp[0](*grid)
        self.y: Grid = y[None, :, None] + deformation.warp[1](*grid)
        self.x: Grid = x[None, None, :] + deformation.warp[2](*grid)
        self.bump: Grid = deformation.bump(*grid)
        self.texture: Grid = deformation.texture(*grid)
        self.skin: Grid = np.full_like(self.s, -_FAR_MM)
        self.cavity: Grid = np.full_like(self.s, -_FAR_MM)
        self.hu: Grid = np.full_like(self.s, -1000.0)
        self.organs: UInt8[np.ndarray, "Z H W"] = np.zeros(self.hu.shape, np.uint8)
        self.signs: UInt8[np.ndarray, "Z H W"] = np.zeros(self.hu.shape, np.uint8)
        self.edge_mm = float(x[1] - x[0])

    def patch(self, low: Point, high: Point) -> Patch:
        """Cut out the box that holds every voxel whose warped coordinates lie between two corners."""
        slices = tuple(
            slice(int(np.searchsorted(axis, a - margin)), max(int(np.searchsorted(axis, b + margin)), 0))
            for axis, a, b, margin in zip(self._axes, low, high, _WARP_MARGIN_MM, strict=True)
        )
        at = (slices[0], slices[1], slices[2])
        return self._cut(at)

    def slabs(self, low: Point, high: Point) -> Iterator[Patch]:
        """Cut the same box into slabs of few slices, whose temporaries stay in the processor's cache."""
        depth, rows, columns = self.patch(low, high).at
        for start in range(depth.start, min(depth.stop, len(self.s)), _SLAB):
            yield self._cut((slice(start, min(start + _SLAB, depth.stop)), rows, columns))

    def around(self, center: Point, reach: Number | Point) -> Patch:
        """Cut out the box that reaches `reach` millimetres from a point to all sides."""
        s, y, x = reach if isinstance(reach, tuple) else (reach, reach, reach)
        return self.patch((center[0] - s, center[1] - y, center[2] - x), (center[0] + s, center[1] + y, center[2] + x))

    def paint(self, patch: Patch, shape: Grid, hu: Number | Grid, edge_mm: float | None = None) -> Grid:
        """Lay a shape over what is there, with a soft edge one pixel wide.

        Args:
            patch: Where.
            shape: Signed distance in the patch.
            hu: What to paint, one value or one a voxel.
            edge_mm: Width of the edge; by default one pixel.

        Returns:
            Share of the shape in each voxel of the patch, 0..1.
        """
        share: Grid = np.clip(np.float32(0.5) - shape / np.float32(edge_mm or self.edge_mm), 0, 1)
        view = self.hu[patch.at]
        view += share * (hu - view)
        return share

    def label(self, patch: Patch, share: Grid, organ: int) -> None:
        """Mark voxels of which more than half belongs to an organ."""
        self.organs[patch.at][share > 0.5] = organ

    def mark(self, patch: Patch, share: Grid, target: int) -> None:
        """Mark voxels of which more than half belongs to the sign of an injury."""
        self.signs[patch.at][share > 0.5] = target

    def _cut(self, at: tuple[slice, slice, slice]) -> Patch:
        fields = (self.s, self.y, self.x, self.skin, self.cavity, self.bump, self.texture)
        return Patch(at, *(field[at] for field in fields))
