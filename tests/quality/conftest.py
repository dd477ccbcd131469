"""A body of simple shapes: lungs above, a liver on the right, hips below."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import Prepared, PreprocessArgs, prepare_volume

SPACING_MM = (5.0, 4.0, 4.0)
SHAPE = (96, 70, 96)


def _body(top_mm: float = 0, bottom_mm: float = 480, mirrored: bool = False) -> Volume:
    z, h, w = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    x, y = (w - 47.5) / 42, (h - 34.5) / 28
    hu = np.where(x**2 + y**2 < 1, -100, -1000)
    hu = np.where((x**2 + y**2 < 0.9) & (x**2 + y**2 > 0.75), 55, hu)
    lung = (z < 28) & (((np.abs(x) - 0.4) / 0.33) ** 2 + (y / 0.6) ** 2 < 1)
    hu = np.where(lung, -850, hu)
    liver = ((x + 0.35) / 0.4) ** 2 + (y / 0.6) ** 2 + ((z - 38) / 12) ** 2 < 1
    hu = np.where(liver & ~lung, 110, hu)
    spine = (np.abs(x) < 0.11) & (np.abs(y - 0.55) < 0.15)
    hips = (z > 66) & (((np.abs(x) - 0.5) / 0.12) ** 2 + ((y - 0.2) / 0.25) ** 2 < 1)
    hu = np.where(spine | hips, 500, hu)
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    kept = slice(round(top_mm / 5), round(bottom_mm / 5))
    values = np.clip(hu + noise, -1024, 3071).astype(np.int16)[kept]
    values = values[:, :, ::-1].copy() if mirrored else values
    direction = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    return Volume(values, SPACING_MM, direction, (0.0, 0.0, 0.0), "p", "", "s", "body")


@pytest.fixture
def body() -> Callable[..., tuple[Volume, Prepared]]:
    """Make a volume and its preparation; parts of it and its mirror image on demand."""

    def make(notes: tuple[str, ...] = (), **kwargs: float | bool) -> tuple[Volume, Prepared]:
        volume = replace(_body(**kwargs), notes=notes)
        return volume, prepare_volume(volume, PreprocessArgs(size=(64, 96, 128)))

    return make
