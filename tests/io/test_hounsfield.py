from pathlib import Path

import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.io.hounsfield import from_window, guess_hounsfield, is_label_map, to_int16

PATH = Path("scan.nii")


def noise(low: int, high: int, dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (6, 20, 20)).astype(dtype)


def blocks(values: int) -> np.ndarray:
    """A label map of cubes, 5 voxels wide."""
    cubes = np.random.default_rng(0).integers(0, values, (3, 6, 6))
    return cubes.repeat(5, 0).repeat(5, 1).repeat(5, 2).astype(np.uint8)


def test_padding_is_raised_and_the_top_is_clipped():
    values = np.array([[[-3024, -1024, -1000.4, 40.6, 40000]]])
    assert to_int16(values).tolist() == [[[-1024, -1024, -1000, 41, 32767]]]


def test_hounsfield_values_pass_unchanged():
    hu, notes = guess_hounsfield(noise(-1000, 1000), PATH)
    assert np.array_equal(hu, noise(-1000, 1000))
    assert notes == ()


def test_windowed_values_are_mapped_and_noted():
    hu, notes = guess_hounsfield(noise(0, 256, np.uint8), PATH)
    assert (hu.min(), hu.max()) == (-150, 250)
    assert notes[0].startswith("windowed: ")


def test_window_ends_meet():
    values = np.array([[[0.0, 0.5, 1.0]]])
    assert from_window(values, 1.0, (-100.0, 300.0)).tolist() == [[[-100, 100, 300]]]


@pytest.mark.parametrize("values", [2, 14, 118])
def test_label_maps_are_refused_in_any_type(values):
    for dtype in (np.uint8, np.int16, np.float64):
        with pytest.raises(ReadError, match="label map"):
            guess_hounsfield(blocks(values).astype(dtype), PATH)


def test_windowed_ct_is_no_label_map():
    smooth = noise(0, 256).cumsum(2) % 256
    assert not is_label_map(smooth)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 4, 5)), "every voxel is 0"),
        (np.random.default_rng(0).random((6, 20, 20)), "not Hounsfield units"),
        (np.random.default_rng(0).normal(size=(6, 20, 20)).clip(-1, 1), "not Hounsfield units"),
        (noise(0, 4000), "not Hounsfield units"),
        (noise(-1000, 30000), "not Hounsfield units"),
        (noise(0, 9).astype(complex), "one number a voxel"),
        (np.where(noise(0, 10) < 5, noise(-60, 60), noise(950, 1200)), "as only hard bone does"),
    ],
)
def test_what_no_ct_has_is_refused(array, reason):
    with pytest.raises(ReadError, match=reason):
        guess_hounsfield(array, PATH)


def test_nan_and_infinity_are_counted():
    array = noise(-1000, 1000).astype(np.float32)
    array[0, 0, :3] = np.nan
    array[0, 1, 0] = np.inf
    with pytest.raises(ReadError, match="4 of 2400 voxels are NaN or infinite; set them to -1024"):
        guess_hounsfield(array, PATH)
