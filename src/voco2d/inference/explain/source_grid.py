"""From what a network saw back to the scan: which source slices, and where on the source's pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float32

from voco2d.io.volume import Volume
from voco2d.preprocessing.grid import Span
from voco2d.preprocessing.preprocess import Prepared
from voco2d.preprocessing.readout import ReadoutArgs, crop_corner, stack_indices
from voco2d.types import Matrix, Shape3

Value = TypeVar("Value")


@dataclass(frozen=True)
class SourceSlice:
    """Where a slice that the networks saw lies in its source.

    Args:
        position: Of its middle, in source slices; 0 is the centre of the first one. It may lie outside, in added air.
        index: The source slice that is nearest to it, 0 is the first, the most superior.
        instance_number: Of that slice's DICOM file or frame, None where it is unknown.
        instance_uid: SOP instance UID of that file, empty where it is unknown.
        position_mm: LPS position of the centre of that slice's first voxel by the volume's affine, millimetres; where
            slices stand unevenly, only about.
    """

    position: float
    index: int
    instance_number: int | None
    instance_uid: str
    position_mm: tuple[float, float, float]


@dataclass(frozen=True)
class SourceGrid:
    """How the crop that the networks saw lies in its source volume.

    Args:
        shape: (Z, H, W) voxels of the source.
        prepared: (Z, H, W) voxels of the prepared volume.
        span: What the prepared volume covers, in source voxels.
        corner: First row and column of the crop on the prepared slices.
        crop: Its side, prepared pixels.
        depths: (S) prepared slices that the networks saw, rising; with neighbours, the middle ones.
        affine_lps: (4, 4) map from source voxel index (z, h, w) to LPS millimetres.
    """

    shape: Shape3
    prepared: Shape3
    span: Span
    corner: tuple[int, int]
    crop: int
    depths: tuple[int, ...]
    affine_lps: Matrix

    @classmethod
    def of(cls, volume: Volume, prepared: Prepared, readout: ReadoutArgs) -> "SourceGrid":
        """Take over the geometry of a read-out."""
        depth, height, width = prepared.hu.shape
        z, h, w = volume.hu.shape
        return cls(
            shape=(z, h, w),
            prepared=(depth, height, width),
            span=prepared.span or prepared.box,
            corner=crop_corner((height, width), readout.crop),
            crop=readout.crop,
            depths=tuple(stack_indices(depth, readout)[:, readout.neighbours].tolist()),
            affine_lps=volume.affine_lps,
        )

    def positions(self) -> Float[np.ndarray, " S"]:
        """Return where the slices lie, in source slices."""
        start, stop = self.span[:2]
        return np.asarray(start + (np.array(self.depths) + 0.5) * (stop - start) / self.prepared[0] - 0.5)

    def curve(self, values: Float[np.ndarray, " S"]) -> Float[np.ndarray, " Z"]:
        """Bring one value a slice to the source slices, linearly in between; NaN where the networks saw nothing."""
        z = np.arange(self.shape[0])
        inside = [self.sees(index) for index in range(self.shape[0])]
        return np.where(inside, np.interp(z, self.positions(), values), np.nan)

    def sees(self, index: int) -> bool:
        """Tell whether the middle of a source slice lies in what the networks were prepared from."""
        start, stop = self.span[:2]
        return bool(start <= index + 0.5 <= stop)

    def plane(self, heat: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "H W"]:
        """Bring a map of the crop to the source's pixels, bilinearly; 0 outside the crop."""
        rows, columns = (self._weights(axis, count) for axis, count in enumerate(heat.shape))
        return np.asarray(rows @ heat @ columns.T, dtype=np.float32)

    def heat_affine_lps(self, heat: tuple[int, int]) -> Matrix:
        """(4, 4) map from (prepared slice, map row, map column) to LPS millimetres, for maps of `heat` (h, w) cells."""
        start, stop = self.span[:2]
        to_source = np.eye(4)
        to_source[0, 0] = (stop - start) / self.prepared[0]
        to_source[0, 3] = start + 0.5 * to_source[0, 0] - 0.5
        for axis, count in enumerate(heat):
            low, step = self._interval(axis)
            to_source[axis + 1, axis + 1] = step * self.crop / count
            to_source[axis + 1, 3] = low + 0.5 * to_source[axis + 1, axis + 1] - 0.5
        return np.asarray(self.affine_lps @ to_source)

    def _interval(self, axis: int) -> tuple[float, float]:
        """Return where the crop begins along rows (0) or columns (1), and how far its pixels are apart, source voxels.

        Voxel i lies between i and i + 1.
        """
        start, stop = self.span[2 * axis + 2 : 2 * axis + 4]
        step = (stop - start) / self.prepared[axis + 1]
        return start + self.corner[axis] * step, step

    def _weights(self, axis: int, count: int) -> Float32[np.ndarray, "source cells"]:
        low, step = self._interval(axis)
        places = (np.arange(self.shape[axis + 1]) + 0.5 - low) / (step * self.crop)  # 0…1 over the crop
        weights = cell_weights(places, count)
        weights[(places < 0) | (places > 1)] = 0
        return weights


def cell_weights(places: Float[np.ndarray, " places"], count: int) -> Float32[np.ndarray, "places cells"]:
    """Return linear weights, at places in 0…1, of `count` cells that fill it; at its ends only the last cell counts."""
    cells = np.clip(places * count - 0.5, 0, count - 1)
    return np.asarray(np.clip(1 - np.abs(cells[:, None] - np.arange(count)), 0, None), dtype=np.float32)


def source_slices(volume: Volume, grid: SourceGrid) -> tuple[SourceSlice, ...]:
    """Name the source slice of each slice that the networks saw, (S) from superior to inferior."""
    found = []
    for position in grid.positions():
        index = int(np.clip(np.floor(position + 0.5), 0, grid.shape[0] - 1))
        x, y, z = (volume.affine_lps @ [index, 0, 0, 1])[:3].tolist()
        found.append(
            SourceSlice(
                position=float(position),
                index=index,
                instance_number=_at(volume.instance_numbers, index),
                instance_uid=_at(volume.instance_uids, index) or "",
                position_mm=(x, y, z),
            )
        )
    return tuple(found)


def _at(values: Sequence[Value], index: int) -> Value | None:
    return values[index] if values else None
