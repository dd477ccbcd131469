"""A prepared volume on a coarse grid of known spacing, with the masks that the anatomy is judged by."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import Prepared
from voco2d.preprocessing.spatial import resize_area
from voco2d.types import Millimetres3, Shape3

GRID_MM: Final = 4.0
"""Voxel edge of the coarse grid: fine enough for a liver, coarse enough that noise averages out."""

BODY_HU: Final = -300
LUNG_HU: Final = -500

_MAX_VOXELS: Final = 160
_MIN_LUNG_ML: Final = 40.0
_SURE_LUNG_ML: Final = 800.0
_GAS_HU: Final = -930.0

Mask3: TypeAlias = Bool[np.ndarray, "Z H W"]


@dataclass(frozen=True)
class BodyGrid:
    """A body on a coarse grid.

    Args:
        hu: (Z, H, W) Hounsfield units; axes as in `Volume`.
        spacing_mm: Of the coarse grid.
        body: (Z, H, W) the patient, lungs and bowel gas included.
        lungs: (Z, H, W) air inside the body that is lung by its volume and its HU.
    """

    hu: Float32[np.ndarray, "Z H W"]
    spacing_mm: Millimetres3
    body: Mask3
    lungs: Mask3

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def pixel_cm2(self) -> float:
        """Area of a voxel in the axial plane."""
        return self.spacing_mm[1] * self.spacing_mm[2] / 100


def prepared_spacing_mm(volume: Volume, prepared: Prepared) -> Millimetres3:
    """Return the distance of neighbouring voxels of `prepared`: what it covers over its voxel count."""
    z0, z1, h0, h1, w0, w1 = prepared.span or prepared.box
    extents = np.asarray((z1 - z0, h1 - h0, w1 - w0)) * np.asarray(volume.spacing_mm)
    steps = extents / np.asarray(prepared.hu.shape)
    return (float(steps[0]), float(steps[1]), float(steps[2]))


def body_grid(prepared: Prepared, spacing_mm: Millimetres3) -> BodyGrid:
    """Bring a prepared volume to about `GRID_MM` and mark body and lungs.

    Args:
        prepared: As preprocessing gives it.
        spacing_mm: Of the prepared volume, see `prepared_spacing_mm`.
    """
    extents = [count * step for count, step in zip(prepared.hu.shape, spacing_mm, strict=True)]
    sizes = [
        max(1, min(count, _MAX_VOXELS, round(extent / GRID_MM)))
        for count, extent in zip(prepared.hu.shape, extents, strict=True)
    ]
    shape: Shape3 = (sizes[0], sizes[1], sizes[2])
    hu = resize_area(prepared.hu, shape)
    steps = [extent / size for extent, size in zip(extents, shape, strict=True)]
    body = _body(hu)
    coarse_mm = (steps[0], steps[1], steps[2])
    return BodyGrid(hu=hu, spacing_mm=coarse_mm, body=body, lungs=_lungs(hu, body, coarse_mm))


def cut_share(grid: BodyGrid) -> float:
    """Share of the slices on which the body touches a side of its box along a line of at least 40 mm."""
    rows = max(1, round(40 / grid.spacing_mm[1]))
    touching = (grid.body[:, :, 0].sum(axis=1) >= rows) | (grid.body[:, :, -1].sum(axis=1) >= rows)
    return float(touching.mean())


def _body(hu: Float32[np.ndarray, "Z H W"]) -> Mask3:
    threshold = max(BODY_HU, float(hu.min()))
    solid = _largest(hu > threshold)
    return np.stack([ndimage.binary_fill_holes(_closed_at_border(plane)) for plane in solid])


def _closed_at_border(plane: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Let body that the field of view cuts off at the side enclose the lung there.

    A side column closes between its first and its last body pixel, so that air outside the skin stays outside.
    """
    closed = plane.copy()
    for column in (0, -1):
        rows = np.flatnonzero(plane[:, column])
        if rows.size:
            closed[rows[0] : rows[-1] + 1, column] = True
    return closed


def _lungs(hu: Float32[np.ndarray, "Z H W"], body: Mask3, spacing_mm: Millimetres3) -> Mask3:
    """Keep pieces of air in the body that are large and not as dark as gas: lung is a mix of air and tissue.

    The lower quartile of a piece tells them apart, as the rim of either is blurred with tissue.
    """
    labels, count = ndimage.label(body & (hu < LUNG_HU))
    if count == 0:
        return np.zeros_like(body)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
    keep = np.zeros(count + 1, dtype=bool)
    for label in np.flatnonzero(sizes[1:] >= _MIN_LUNG_ML) + 1:
        quartile = np.percentile(hu[labels == label], 25)
        keep[label] = sizes[label] >= _SURE_LUNG_ML or quartile > _GAS_HU
    lungs: Mask3 = keep[labels]
    return lungs


def _largest(mask: Mask3) -> Mask3:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask3 = labels == sizes.argmax()
    return largest
