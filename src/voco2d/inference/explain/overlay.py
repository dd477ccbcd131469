"""Pictures of key slices: the scan in grey, and in colour where most speaks for an injury."""

import io
from typing import Final

import matplotlib as mpl
import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image, ImageDraw

from voco2d.inference.explain.explanation import KeySlice, SeriesExplanation
from voco2d.inference.results import NOTICE
from voco2d.io.volume import Volume
from voco2d.preprocessing.intensity import window_hu

WINDOW_HU: Final = (-160.0, 240.0)
"""Soft tissue: level 40, width 400."""
COLOURS: Final = "inferno"
"""Matplotlib's map, whose brightness rises evenly, so that it is told apart with any colour vision."""
_FAINTEST: Final = 0.15
_STRONGEST: Final = 0.6
"""Opacity of the largest activation."""
_LEAST_PIXELS: Final = 384
"""Of the longer side of a key image, so that its words can be read."""
_WORDS_RGB: Final = (230, 159, 0)


def overlay(hu: Num[np.ndarray, "H W"], heat: Float32[np.ndarray, "H W"] | None) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a map over a slice.

    Args:
        hu: The slice.
        heat: 0…1; below 0.15 nothing is drawn. None draws the slice alone.

    Returns:
        Red, green and blue.
    """
    grey = np.repeat(window_hu(hu, *WINDOW_HU)[..., None], 3, axis=2)
    if heat is not None:
        colour = np.asarray(mpl.colormaps[COLOURS](heat), dtype=np.float32)[..., :3]
        opacity = np.where(heat < _FAINTEST, 0, _STRONGEST * heat)[..., None]
        grey = (1 - opacity) * grey + opacity * colour
    return np.asarray(np.rint(255 * grey), dtype=np.uint8)


def key_slice_picture(
    volume: Volume, explanation: SeriesExplanation, target: str, key: KeySlice
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a key slice with the target's weighted activation over it, as `heat_image` has it, on the scan's pixels.

    Args:
        volume: The scan that was explained.
        explanation: Of that scan.
        target: Name of the target.
        key: One of its key slices.
    """
    heat = explanation.source_overlay(target, key.source.index) if explanation.has_maps else None
    return overlay(np.asarray(volume.hu[key.source.index]), heat)


def key_image(volume: Volume, explanation: SeriesExplanation, target: str, key: KeySlice) -> bytes:
    """Draw `key_slice_picture` with square pixels, what it shows, and what it is not for, as PNG.

    It names nobody; the same arguments give the same bytes.
    """
    picture = to_square_pixels(key_slice_picture(volume, explanation, target, key), volume, _LEAST_PIXELS)
    draw = ImageDraw.Draw(picture)
    what = "attribution" if explanation.has_maps else "key slice"
    place = f"slice {key.source.index + 1} of {volume.hu.shape[0]}"
    draw.text((6, 4), f"voco2d: {target}, {what} {key.rank}, {place}", fill=_WORDS_RGB)
    draw.text((6, picture.height - 16), NOTICE, fill=_WORDS_RGB)
    mark_right(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def to_square_pixels(picture: UInt8[np.ndarray, "H W *channels"], volume: Volume, least: int) -> Image.Image:
    """Give a picture of a scan's slice, or a part of one, the true ratio of its sides.

    Args:
        picture: On the pixels of the scan.
        volume: The scan.
        least: Pixels of the longer side at least.
    """
    rows, columns = picture.shape[:2]
    _, row_mm, column_mm = volume.spacing_mm
    finest = min(row_mm, column_mm)
    height, width = rows * row_mm / finest, columns * column_mm / finest
    scale = max(1.0, least / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(picture)
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def mark_right(picture: Image.Image) -> None:
    """Write an R on the side of the patient's right."""
    ImageDraw.Draw(picture).text((6, picture.height // 2 - 6), "R", fill=_WORDS_RGB)
