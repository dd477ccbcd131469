"""Where the patient is in a CT volume: the box around the body, without table, blankets and surrounding air."""

from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Final, TypeAlias

import numpy as np

from voco2d.io.spool import lowest, planes
from voco2d.preprocessing.mask_parts import Parts, find_parts, opened
from voco2d.types import HuVolume

Box: TypeAlias = tuple[int, int, int, int, int, int]
"""Half-open voxel ranges z0, z1, h0, h1, w0, w1 in the source volume."""

BODY_THRESHOLD_HU = -500
"""Above lie fat, soft tissue and bone; below lie air, lung, clothes and the foam of the table."""

_COARSE_PIXELS = 256
_OPENING_SHARE = 100
_MIN_BODY_SHARE = 0.01
_CONTOUR_SHARE = 0.25
_PRESENT_SHARE = 0.02
_SLICES_AT_ONCE: Final = 8
"""Their masks fit the processor's cache."""


@dataclass(frozen=True)
class Body:
    """The patient's place in a volume.

    Args:
        box: z range from the first to the last slice with body; h and w ranges around the large contours of all slices.
        fraction: Share of the box's voxels inside body contours, 0…1; lung and bowel gas do not count.
    """

    box: Box
    fraction: float


def body_box(hu: HuVolume, threshold_hu: int = BODY_THRESHOLD_HU) -> Box | None:
    """Return the box of `find_body`, or None where there is no body."""
    body = find_body(hu, threshold_hu)
    return None if body is None else body.box


def find_body(hu: HuVolume, threshold_hu: int = BODY_THRESHOLD_HU) -> Body | None:
    """Find the patient.

    On each slice, on a grid of about 256 pixels: threshold, opening (which removes table shells and cables),
    connected components. The in-plane box joins the components of at least a quarter of the volume's largest one:
    so both thighs and a chest split by the field of view count, and a table alone above the head does not. Slices at
    either end hold no body where each component is below 2 % of the largest one or centred behind the patient's back.

    Args:
        hu: (Z, H, W) int16 Hounsfield units; padding such as −3024 counts as air.
        threshold_hu: Body is above it. Raised to the volume's minimum where that is higher, so that a volume
            whose intensities were windowed before (air at −150 for example) still shows its background.

    Returns:
        The body, or None where no slice holds a component of at least 1 % of the slice.
    """
    height, width = hu.shape[1:]
    step = max(1, round(min(height, width) / _COARSE_PIXELS))
    radius = min(height, width) // step // _OPENING_SHARE
    parts = _parts(hu, step, max(threshold_hu, lowest(hu, threshold_hu)), radius)
    coarse_pixels = -(-height // step) * -(-width // step)
    largest = int(parts.area.max(initial=0))
    if largest < _MIN_BODY_SHARE * coarse_pixels:
        return None
    large = parts.area >= _CONTOUR_SHARE * largest
    h0, h1 = _extent(int(parts.top[large].min()), int(parts.bottom[large].max()), step, height)
    w0, w1 = _extent(int(parts.left[large].min()), int(parts.right[large].max()), step, width)
    back = int(parts.bottom[large].max())
    present = parts.z[(parts.area >= _PRESENT_SHARE * largest) & (parts.top + parts.bottom < 2 * back)]
    z0, z1 = int(present.min()), int(present.max()) + 1
    voxels = (z1 - z0) * (h1 - h0) * (w1 - w0)
    fraction = int(parts.area[large].sum()) * step * step / voxels
    return Body(box=(z0, z1, h0, h1, w0, w1), fraction=min(1.0, fraction))


def _parts(hu: HuVolume, step: int, threshold_hu: int, radius: int) -> Parts:
    """Find the connected parts above the threshold of each slice, opened, on every `step`-th pixel."""
    height, width = -(-hu.shape[1] // step), -(-hu.shape[2] // step)
    margin = max(1, radius)
    found: list[Parts] = []
    walk = enumerate(planes(hu))
    while chunk := list(islice(walk, _SLICES_AT_ONCE)):
        masks = np.zeros((len(chunk), height, width + margin), dtype=np.bool_)
        for place, (_, plane) in enumerate(chunk):
            np.greater(plane[::step, ::step], threshold_hu, out=masks[place, :, :width])
        parts = find_parts(opened(masks, radius, margin))
        found.append(replace(parts, z=parts.z + chunk[0][0]))
    return Parts(*(np.concatenate([getattr(parts, name.name) for parts in found]) for name in fields(Parts)))


def _extent(start: int, stop: int, step: int, size: int) -> tuple[int, int]:
    """Give a coarse range one coarse pixel of margin, because opening and step shave the skin."""
    return max(0, (start - 1) * step), min(size, (stop + 1) * step)
