"""What a browser is shown of a volume: NIfTI small enough for a phone, overlays on the same grid, key slices."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from einops import rearrange
from jaxtyping import Shaped
from PIL import Image
from scipy.ndimage import zoom

from voco2d.io.orientation import swap_lps_ras
from voco2d.io.volume import Volume
from voco2d.service.web.evidence import Overlay
from voco2d.types import Matrix, Shape3

MOST_VOXELS: Final = (400, 256, 256)
"""Of what a browser loads, along (Z, H, W); larger volumes are thinned out."""

_WINDOW_HU: Final = (-160.0, 240.0)
_PICTURE_PIXELS: Final = 384
_OVERLAY_CELLS: Final = 64
_GZIP_LEVEL: Final = 1


def thinning(shape: Shape3) -> Shape3:
    """Return how many voxels become one along each axis so that `MOST_VOXELS` is kept."""
    depth, height, width = (-(-size // most) for size, most in zip(shape, MOST_VOXELS, strict=True))
    return depth, max(height, width), max(height, width)


def nifti_bytes(voxels: Shaped[np.ndarray, "Z H W"], affine_lps: Matrix, step: Shape3 = (1, 1, 1)) -> bytes:
    """Write every n-th voxel as gzipped NIfTI; nothing of the patient is in it.

    Where slices lie as they usually do, its axes run to the patient's right, front and head, so that a viewer need
    not turn it: slice i is the i-th from below.

    Args:
        voxels: (Z, H, W) int16 or uint8.
        affine_lps: (4, 4) map from voxel index (z, h, w) to LPS millimetres.
        step: From `thinning`.
    """
    kept = voxels[:: step[0], :: step[1], :: step[2]]
    affine = swap_lps_ras(affine_lps)  # of the first voxel, which thinning keeps
    affine[:, :3] *= step
    turned = np.empty((4, 4))
    turned[:, :3] = -affine[:, [2, 1, 0]]
    turned[:, 3] = affine @ [*(size - 1 for size in kept.shape), 1]
    mirrored = np.asfortranarray(rearrange(kept[::-1, ::-1, ::-1], "z h w -> w h z"))
    image: Any = nib.Nifti1Image(mirrored, turned)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), _GZIP_LEVEL, mtime=0)


def overlay_bytes(overlay: Overlay) -> bytes:
    """Write an overlay as `nifti_bytes` of 0 to 255.

    Coarse cells are made finer in the plane, linearly: viewers show their edges otherwise, which mean nothing.
    """
    fine = [-(-_OVERLAY_CELLS // size) for size in overlay.voxels.shape[1:]]
    voxels = zoom(np.clip(overlay.voxels, 0, 1), (1, *fine), order=1, mode="nearest", grid_mode=True)
    to_coarse = np.diag([1.0, *(1 / times for times in fine), 1.0])
    to_coarse[1:3, 3] = [0.5 / times - 0.5 for times in fine]  # voxel i lies between i − ½ and i + ½
    return nifti_bytes(np.rint(voxels * 255).astype(np.uint8), np.asarray(overlay.affine_lps @ to_coarse))


def slice_picture(volume: Volume, index: int) -> bytes:
    """Draw a slice in a soft-tissue window as JPEG, with square pixels.

    Args:
        volume: Graded.
        index: Of the slice, from 0.
    """
    low, high = _WINDOW_HU
    grey = np.clip((volume.hu[index].astype(np.float32) - low) / (high - low), 0, 1) * 255
    _, height_mm, width_mm = volume.coverage_mm
    scale = _PICTURE_PIXELS / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    picture = Image.fromarray(np.rint(grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


def overview_slices(depth: int) -> Iterator[tuple[str, int]]:
    """Name the slices that show a volume at a glance: at a quarter, the half and three quarters of it."""
    for name, share in (("upper", 0.25), ("middle", 0.5), ("lower", 0.75)):
        yield name, min(depth - 1, int(depth * share))


def write_bytes(path: Path, content: bytes) -> int:
    """Write a file, making its folder; return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(content)
