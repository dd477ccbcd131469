"""The strip of three planes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from voco2d.quality.body_grid import prepared_spacing_mm
from voco2d.quality.thumbnail import HEIGHT, thumbnail


def test_small_grey_and_the_same_each_time(body):
    volume, prepared = body()
    spacing = prepared_spacing_mm(volume, prepared)
    picture = thumbnail(prepared, spacing)
    assert picture == thumbnail(prepared, spacing)
    assert len(picture) <= 6000
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.mode, image.height) == ("JPEG", "L", HEIGHT)
        assert not image.getexif()


def test_noise_stays_small(body):
    _, prepared = body()
    noise = np.random.default_rng(0).integers(-160, 240, prepared.hu.shape, dtype=np.int16)
    assert len(thumbnail(replace(prepared, hu=noise))) <= 8000


def test_aspect_is_that_of_the_body(body):
    _, prepared = body()
    white = replace(prepared, hu=np.full((10, 40, 40), 300, dtype=np.int16))
    with Image.open(io.BytesIO(thumbnail(white, (2.0, 1.0, 4.0)))) as image:
        pixels = np.asarray(image) > 128
    axial, coronal = pixels[:, :124], pixels[:, 126:250]
    for panel, ratio in ((axial, 40 / 160), (coronal, 20 / 160)):
        rows, columns = np.median(panel.sum(axis=0)), panel.sum(axis=1).max()
        assert rows / columns == pytest.approx(ratio, rel=0.1)
