"""From a CT series to the prepared volume that training and prediction share: one crop, HU limits, one size."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from voco2d.config import Tree
from voco2d.errors import ConfigError, ReadError
from voco2d.io.spool import release
from voco2d.io.volume import Volume
from voco2d.preprocessing.body import BODY_THRESHOLD_HU, Body, Box, find_body
from voco2d.preprocessing.grid import Span, axis_grids, grid_span
from voco2d.preprocessing.organ_crop import OrganCrop, find_organ_box
from voco2d.preprocessing.partial_slices import find_partial_slices
from voco2d.preprocessing.spatial import weighted_slices
from voco2d.types import HuVolume, Matrix, Millimetres3

AIR_HU = -1024
"""What prepared voxels outside the crop are filled with, raised to the lower end of `clip_hu`."""

_RELEASE_EVERY = 16


@dataclass(frozen=True)
class PreprocessArgs:
    """How volumes are prepared; travels in stores and checkpoints.

    Args:
        size: Voxels of a prepared volume along (Z, H, W).
        body_crop: Cut the box around the body before resizing; otherwise the whole volume is resized.
        clip_hu: HU are limited to this range before they are averaged.
        body_threshold_hu: Body is above this value, HU.
        drop_partial: Leave out partly black slices at the ends; those further inside are noted only.
        spacing_mm: Distance of prepared voxels along (Z, H, W), millimetres: the crop is resampled to it and then
            cropped or padded with air around its middle to `size`. None resizes the crop to `size`, whatever its
            spacing becomes.
        organ_crop: Cut the box around the organs of interest in place of the body's: "none", "masks" (from a folder
            of segmentations) or "totalsegmentator" (run on each series). Series without a mask keep the body's.
        organ_margin_mm: Added to the box of the organs on all sides, millimetres.
        organ_labels: Numbers of the organs of interest in label files; if empty, those of RSNA or TotalSegmentator.
    """

    size: tuple[int, int, int] = (96, 256, 256)
    body_crop: bool = True
    clip_hu: tuple[int, int] = (-1024, 3071)
    body_threshold_hu: int = BODY_THRESHOLD_HU
    drop_partial: bool = True
    spacing_mm: tuple[float, float, float] | None = None
    organ_crop: OrganCrop = "none"
    organ_margin_mm: float = 10.0
    organ_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse sizes and limits that make no volume."""
        if min(self.size) < 1:
            raise ConfigError(f"size is {self.size}; each of the three must be at least 1")
        low, high = self.clip_hu
        if not -32768 <= low < high <= 32767:
            raise ConfigError(f"clip_hu is {self.clip_hu}; the first must be below the second, both within int16")
        if self.spacing_mm is not None and not all(0.01 <= step <= 100 for step in self.spacing_mm):
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; each of the three must be 0.01 to 100 mm")
        if not 0 <= self.organ_margin_mm <= 1000:
            raise ConfigError(f"organ_margin_mm is {self.organ_margin_mm}; it must be 0 to 1000 mm")
        if any(label < 1 for label in self.organ_labels):
            raise ConfigError(f"organ_labels is {self.organ_labels}; numbers of organs begin with 1")


@dataclass(frozen=True)
class Prepared:
    """A prepared volume and where it lies in its source.

    Voxel i of an axis with n voxels covers the source interval `start + [i, i + 1) × (stop − start) / n`, start and
    stop being that axis' part of `span`; `source_voxel` gives the middle of it.

    Args:
        hu: (Z, H, W) int16 Hounsfield units.
        box: z0, z1, h0, h1, w0, w1 in the source volume, half-open: what was cut out of it.
        body_fraction: Share of the body's box inside the body's contours, 0…1.
        notes: What preprocessing met, in the form of `Volume.notes`.
        span: z0, z1, h0, h1, w0, w1 in source voxels: what `hu` covers. It is `box` (and may be left out) unless
            `spacing_mm` was given; then it may be smaller (cropped) or larger (air outside the box).
    """

    hu: HuVolume
    box: Box
    body_fraction: float
    notes: tuple[str, ...] = ()
    span: Span | None = None

    def source_voxel(self, z: int | float, h: int | float, w: int | float) -> tuple[float, float, float]:
        """Return the position of a prepared voxel's middle in the source, in voxels; 0 is the first one's centre."""
        span = self.span or self.box
        ends = zip((z, h, w), span[::2], span[1::2], self.hu.shape, strict=True)
        source = [start + (index + 0.5) * (stop - start) / count - 0.5 for index, start, stop, count in ends]
        return source[0], source[1], source[2]

    def affine_lps(self, volume: Volume) -> Matrix:
        """(4, 4) map from prepared voxel index (z, h, w) to LPS millimetres; `volume` is the source."""
        span = self.span or self.box
        to_source = np.eye(4)
        for axis, count in enumerate(self.hu.shape):
            to_source[axis, axis] = (span[2 * axis + 1] - span[2 * axis]) / count
        to_source[:3, 3] = self.source_voxel(0, 0, 0)
        return np.asarray(volume.affine_lps @ to_source)


def settings_tree(tree: Tree) -> Tree:
    """Complete the settings of a store or checkpoint of an older version, so that they mean what was done then.

    All keys that came later are off by default, but for `drop_partial`.
    """
    return {"drop_partial": False, **tree}


def preprocess(volume: Volume, args: PreprocessArgs | None = None, masks: Path | None = None) -> HuVolume:
    """Return the prepared voxels alone, (Z, H, W) int16 HU.

    Args:
        volume: As `volume`, `args` and `masks` of `prepare_volume`.
        args: See there.
        masks: See there.
    """
    return prepare_volume(volume, args, masks=masks).hu


def prepare_volume(volume: Volume, args: PreprocessArgs | None = None, *, masks: Path | None = None) -> Prepared:
    """Cut the body or the organs out of `volume`, limit its HU and resize it.

    Args:
        volume: A series as a reader gives it. Only a few of its slices at a time are held as float32.
        args: Settings; the defaults when None.
        masks: Folder of organ masks for `organ_crop="masks"`, see `voco2d.preprocessing.organ_masks.find_mask`.

    Raises:
        ReadError: There is no body in the volume.
        ConfigError: TotalSegmentator is asked for and not installed.
    """
    args = args or PreprocessArgs()
    _, height, width = volume.hu.shape
    (first, stop), partial_notes = _whole_slices(volume.hu, args.drop_partial)
    body = _body(volume, (first, stop), args)
    release(volume.hu)
    box = body.box if args.body_crop else (first, stop, 0, height, 0, width)
    notes = (*partial_notes, *_empty_notes(stop - first, box))
    if args.organ_crop != "none":
        organs, note = find_organ_box(volume, args.organ_crop, masks, args.organ_labels, args.organ_margin_mm)
        if organs is None:
            note += ", crop to the body instead" if args.body_crop else ", not cropped"
        else:
            box = (max(organs[0], first), min(organs[1], stop), *organs[2:])
        notes = (*notes, note)
        release(volume.hu)
    hu, span = _resample(volume.hu, box, volume.spacing_mm, args)
    return Prepared(hu=hu, box=box, body_fraction=body.fraction, notes=notes, span=span)


def _whole_slices(hu: HuVolume, drop_partial: bool) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the range of slices to go on with, and what to note about partly black ones."""
    partial = find_partial_slices(hu)
    kept = partial.ends if drop_partial else (0, hu.shape[0])
    parts = [f"{partial.dropped} {'dropped' if drop_partial else 'kept at the ends'}"] if partial.dropped else []
    parts += [f"{partial.inside} kept inside"] if partial.inside else []
    return kept, (f"partial slices: {', '.join(parts)}",) if parts else ()


def _body(volume: Volume, slices: tuple[int, int], args: PreprocessArgs) -> Body:
    first, stop = slices
    body = find_body(volume.hu[first:stop], args.body_threshold_hu)
    if body is None:
        reason = f"no body found: on no slice is 1 % of the pixels above {args.body_threshold_hu} HU and connected"
        raise ReadError(volume.source, reason)
    return replace(body, box=(body.box[0] + first, body.box[1] + first, *body.box[2:]))


def _resample(
    hu: HuVolume, box: Box, spacing_mm: Millimetres3, args: PreprocessArgs
) -> tuple[Int16[np.ndarray, "prepared_z prepared_h prepared_w"], Span]:
    z0, z1, h0, h1, w0, w1 = box
    grids = axis_grids(box, args.size, spacing_mm, args.spacing_mm)
    depth, rows, columns = grids
    (za, zb), (ha, hb), (wa, wb) = (grid.inside for grid in grids)
    prepared = np.full(args.size, np.clip(AIR_HU, *args.clip_hu), dtype=np.int16)
    weights = (depth.weights[za:zb], rows.weights[ha:hb], columns.weights[wa:wb])
    for z, plane in enumerate(weighted_slices(hu[z0:z1, h0:h1, w0:w1], weights, limits=args.clip_hu), start=za):
        prepared[z, ha:hb, wa:wb] = np.rint(plane)
        if z % _RELEASE_EVERY == 0:
            release(hu)
    return prepared, grid_span(box, grids)


def _empty_notes(depth: int, box: Box) -> tuple[str, ...]:
    dropped = depth - (box[1] - box[0])
    return (f"empty slices: {dropped} without body dropped at the ends",) if dropped else ()
