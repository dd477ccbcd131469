import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voco2d.preprocessing.mask_parts import find_parts, opened

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30))


def with_margin(masks: np.ndarray, margin: int) -> np.ndarray:
    return np.pad(masks, ((0, 0), (0, 0), (0, margin)))


@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=60)
def test_parts_are_those_of_scipy(shape: tuple[int, int, int], seed: int, share: float) -> None:
    masks = np.random.default_rng(seed).random(shape) < share
    expected = set()
    for z, mask in enumerate(masks):
        labels, _ = ndimage.label(mask)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            area = np.count_nonzero(labels == number)
            expected.add((z, area, rows.start, rows.stop, columns.start, columns.stop))
    parts = find_parts(with_margin(masks, 1))
    found = zip(parts.z, parts.area, parts.top, parts.bottom, parts.left, parts.right, strict=True)
    assert len(parts.z) == sum(ndimage.label(mask)[1] for mask in masks)
    assert set(found) == expected


@pytest.mark.parametrize("radius", [0, 1, 3])
@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=30)
def test_opening_is_that_of_scipy(radius: int, shape: tuple[int, int, int], seed: int, share: float) -> None:
    masks = np.random.default_rng(seed).random(shape) < share
    square = np.ones((2 * radius + 1, 2 * radius + 1), dtype=bool)
    eroded = [ndimage.binary_erosion(mask, square, border_value=1) for mask in masks]
    expected = [ndimage.binary_dilation(mask, square) for mask in eroded]
    found = opened(with_margin(masks, max(1, radius)), radius, max(1, radius))
    assert np.array_equal(found, with_margin(np.array(expected), max(1, radius)))
