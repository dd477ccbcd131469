"""From a CT series to the prepared volume that training and prediction share: body box, HU limits, one size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from voco2d.errors import ConfigError, ReadError
from voco2d.io.volume import Volume
from voco2d.preprocessing.body import BODY_THRESHOLD_HU, Box, find_body
from voco2d.preprocessing.spatial import resized_slices
from voco2d.types import HuVolume, Shape3


@dataclass(frozen=True)
class PreprocessArgs:
    """How volumes are prepared; travels in stores and checkpoints.

    Args:
        size: Voxels of a prepared volume along (Z, H, W).
        body_crop: Cut the box around the body before resizing; otherwise the whole volume is resized.
        clip_hu: HU are limited to this range before they are averaged.
        body_threshold_hu: Body is above this value, HU.
    """

    size: tuple[int, int, int] = (96, 256, 256)
    body_crop: bool = True
    clip_hu: tuple[int, int] = (-1024, 3071)
    body_threshold_hu: int = BODY_THRESHOLD_HU

    def __post_init__(self) -> None:
        """Refuse sizes and limits that make no volume."""
        if min(self.size) < 1:
            raise ConfigError(f"size is {self.size}; each of the three must be at least 1")
        low, high = self.clip_hu
        if not -32768 <= low < high <= 32767:
            raise ConfigError(f"clip_hu is {self.clip_hu}; the first must be below the second, both within int16")


@dataclass(frozen=True)
class Prepared:
    """A prepared volume and where it lies in its source.

    Voxel i of an axis with n voxels covers the source interval `start + [i, i + 1) × (stop − start) / n`, start and
    stop being that axis' part of `box`; `source_slice` gives the middle of it for Z.

    Args:
        hu: (Z, H, W) int16 Hounsfield units.
        box: z0, z1, h0, h1, w0, w1 in the source volume, half-open.
        body_fraction: Share of the box inside the body's contours, 0…1.
        notes: What preprocessing met, in the form of `Volume.notes`.
    """

    hu: HuVolume
    box: Box
    body_fraction: float
    notes: tuple[str, ...] = ()

    def source_slice(self, index: int) -> float:
        """Return the position of prepared slice `index` in the source, in slices; 0 is the first slice's centre."""
        z0, z1 = self.box[:2]
        depth: int = self.hu.shape[0]
        return z0 + (index + 0.5) * (z1 - z0) / depth - 0.5


def preprocess(volume: Volume, args: PreprocessArgs | None = None) -> HuVolume:
    """Return `prepare_volume(volume, args).hu`."""
    return prepare_volume(volume, args).hu


def prepare_volume(volume: Volume, args: PreprocessArgs | None = None) -> Prepared:
    """Cut the body out of `volume`, limit its HU and resize it.

    Args:
        volume: A series as a reader gives it. Only a few of its slices at a time are held as float32.
        args: Settings; the defaults when None.

    Raises:
        ReadError: There is no body in the volume.
    """
    args = args or PreprocessArgs()
    body = find_body(volume.hu, args.body_threshold_hu)
    if body is None:
        reason = f"no body found: on no slice is 1 % of the pixels above {args.body_threshold_hu} HU and connected"
        raise ReadError(volume.source, reason)
    depth, height, width = volume.hu.shape
    box = body.box if args.body_crop else (0, depth, 0, height, 0, width)
    hu = _resize(volume.hu, box, args.size, args.clip_hu)
    return Prepared(hu=hu, box=box, body_fraction=body.fraction, notes=_notes(depth, box))


def _resize(
    hu: HuVolume, box: Box, size: Shape3, clip_hu: tuple[int, int]
) -> Int16[np.ndarray, "prepared_z prepared_h prepared_w"]:
    z0, z1, h0, h1, w0, w1 = box
    prepared = np.empty(size, dtype=np.int16)
    for z, plane in enumerate(resized_slices(hu[z0:z1, h0:h1, w0:w1], size, limits=clip_hu)):
        prepared[z] = np.rint(plane)
    return prepared


def _notes(depth: int, box: Box) -> tuple[str, ...]:
    dropped = depth - (box[1] - box[0])
    return (f"empty slices: {dropped} without body dropped at the ends",) if dropped else ()
