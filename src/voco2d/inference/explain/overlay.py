"""Pictures of key slices: the scan in grey, and in colour where most speaks for an injury."""

import io
from typing import Final

import matplotlib as mpl
import numpy as np
from jaxtyping import Float32, Int16, UInt8
from PIL import Image

from voco2d.inference.explain.explanation import KeySlice, SeriesExplanation
from voco2d.io.volume import Volume
from voco2d.preprocessing.intensity import window_hu

WINDOW_HU: Final = (-160.0, 240.0)
"""Soft tissue: level 40, width 400."""
COLOURS: Final = "inferno"
"""Matplotlib's map, whose brightness rises evenly, so that it is told apart with any colour vision."""
_FAINTEST: Final = 0.15
_STRONGEST: Final = 0.6
"""Opacity of the largest activation."""


def overlay(hu: Int16[np.ndarray, "H W"], heat: Float32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a map over a slice.

    Args:
        hu: The slice.
        heat: 0…1; below 0.15 nothing is drawn.

    Returns:
        Red, green and blue.
    """
    grey = window_hu(hu, *WINDOW_HU)[..., None]
    colour = np.asarray(mpl.colormaps[COLOURS](heat), dtype=np.float32)[..., :3]
    opacity = np.where(heat < _FAINTEST, 0, _STRONGEST * heat)[..., None]
    return np.rint(255 * ((1 - opacity) * grey + opacity * colour)).astype(np.uint8)


def key_slice_picture(
    volume: Volume, explanation: SeriesExplanation, target: str, key: KeySlice
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a key slice with the target's activation over it, on the pixels of the scan.

    Args:
        volume: The scan that was explained.
        explanation: Of that scan.
        target: Name of the target.
        key: One of its key slices.
    """
    return overlay(np.asarray(volume.hu[key.source.index]), explanation.source_heat(target, key.slice))


def png_bytes(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Write a picture as PNG; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
