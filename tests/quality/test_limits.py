"""Values that were limited to a window before, beside full ones and those a reader filled in."""

from dataclasses import replace

import numpy as np
import pytest

from voco2d.io.dicom_grid import shear
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.quality.limits import is_limited, middle_slices
from voco2d.quality.measure import measure


def flags(volume):
    return measure(volume, prepare_volume(volume, PreprocessArgs(size=(64, 96, 128))))["flags"].split(";")


def sheared(volume, degrees):
    """The volume as after the correction of a tilt: its slices shifted, air beside them."""
    shift = np.tan(np.radians(degrees)) * volume.spacing_mm[0] / volume.spacing_mm[1]
    offsets = np.stack([shift * np.arange(len(volume.hu)), np.zeros(len(volume.hu))], axis=1)
    return replace(volume, hu=shear(volume.hu, offsets)[0])


@pytest.mark.parametrize("window_hu", [(-150, 250), (-1024, 250), (-150, 3071)])
@pytest.mark.parametrize("degrees", [0, 8])
def test_window_is_found_even_beside_what_a_tilt_filled(body, window_hu, degrees):
    volume, _ = body()
    found = flags(sheared(replace(volume, hu=volume.hu.clip(*window_hu)), degrees))
    assert "windowed" in found
    assert "odd_hu" not in found


@pytest.mark.parametrize("degrees", [-8, 0, 8])
def test_full_values_are_not_windowed_and_a_tilt_makes_none_odd(body, degrees):
    assert not {"windowed", "odd_hu"} & set(flags(sheared(body()[0], degrees)))


def test_nothing_but_air_is_not_limited(body):
    volume, prepared = body()
    slices = middle_slices(volume, prepared)
    assert slices.shape[0] == 5
    assert not is_limited(np.full_like(slices, -1024))
    assert not is_limited(np.full_like(slices, 40))
