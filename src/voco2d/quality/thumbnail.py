"""A small picture of a prepared volume: one strip of the axial, coronal and sagittal middle planes."""

import io
from typing import Final

import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image, ImageDraw

from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.preprocess import Prepared
from voco2d.types import Millimetres3

WINDOW_HU: Final = (-160.0, 240.0)
"""The usual window of an abdomen: width 400 at level 40."""

HEIGHT: Final = 112
"""Pixels of the strip's height."""

_WIDTH: Final = 124
_GAP: Final = 2
_QUALITIES: Final = (72, 60, 48, 36, 24, 12)
_MAX_BYTES: Final = 6000
_LETTERS: Final = (("A", "P", "R", "L"), ("H", "F", "R", "L"), ("H", "F", "A", "P"))


def thumbnail(prepared: Prepared, spacing_mm: Millimetres3 | None = None) -> bytes:
    """Draw the strip.

    Args:
        prepared: As preprocessing gives it.
        spacing_mm: Of the prepared volume, for the true shape of the body; without it voxels are drawn as cubes.

    Returns:
        A JPEG of at most about 6 kB: grey axial, coronal and sagittal planes, with the letters R L A P H F at their
        sides. Same volume, same bytes; no text but these letters.
    """
    steps = spacing_mm or (1.0, 1.0, 1.0)
    z, h, w = _middle(prepared)
    planes = (
        _panel(prepared.hu[z], steps[1], steps[2]),
        _panel(prepared.hu[:, h], steps[0], steps[2]),
        _panel(prepared.hu[:, :, w], steps[0], steps[1]),
    )
    strip = Image.new("L", (3 * _WIDTH + 2 * _GAP, HEIGHT))
    draw = ImageDraw.Draw(strip)
    for index, (plane, letters) in enumerate(zip(planes, _LETTERS, strict=True)):
        left = index * (_WIDTH + _GAP)
        strip.paste(plane, (left + (_WIDTH - plane.width) // 2, (HEIGHT - plane.height) // 2))
        _letter(draw, left, letters)
    return _jpeg(strip)


def _middle(prepared: Prepared) -> tuple[int, int, int]:
    """Middle slice, and the rows and columns in the middle of the body on it; where there is none, of the array."""
    depth, height, width = prepared.hu.shape
    z = depth // 2
    body = prepared.hu[z] > -200
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    if rows.size == 0:
        return z, height // 2, width // 2
    return z, int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2


def _panel(plane: Num[np.ndarray, "rows columns"], row_mm: float, column_mm: float) -> Image.Image:
    """Window a plane and fit it into a panel with the true ratio of its sides."""
    tall, wide = plane.shape[0] * row_mm, plane.shape[1] * column_mm
    scale = min(HEIGHT / tall, _WIDTH / wide)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    return Image.fromarray(_grey(window_hu(plane, *WINDOW_HU))).resize(size, Image.Resampling.BILINEAR)


def _grey(shares: Float32[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns"]:
    grey: UInt8[np.ndarray, "rows columns"] = np.rint(shares * 255).astype(np.uint8)
    return grey


def _letter(draw: ImageDraw.ImageDraw, left: int, letters: tuple[str, str, str, str]) -> None:
    """Write top, bottom, left and right letter of a panel."""
    places = ((_WIDTH // 2 - 2, 0), (_WIDTH // 2 - 2, HEIGHT - 11), (1, HEIGHT // 2 - 6), (_WIDTH - 7, HEIGHT // 2 - 6))
    for letter, (x, y) in zip(letters, places, strict=True):
        draw.text((left + x + 1, y + 1), letter, fill=0)
        draw.text((left + x, y), letter, fill=215)


def _jpeg(strip: Image.Image) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        strip.save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _MAX_BYTES:
            break
    return buffer.getvalue()
