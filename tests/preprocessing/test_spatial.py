import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voco2d.preprocessing.spatial import axis_weights, centre_crop, evenly_spaced, resize_area

sizes = st.tuples(*[st.integers(1, 9)] * 3)


@given(sizes, sizes, st.integers(-1024, 3071))
def test_constant_stays_constant(source: tuple[int, int, int], target: tuple[int, int, int], value: int) -> None:
    resized = resize_area(np.full(source, value, dtype=np.int16), target)
    assert resized.shape == target
    np.testing.assert_array_equal(np.rint(resized), value)


@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_shrinking_by_whole_numbers_is_the_block_mean(
    target: tuple[int, int, int], factors: tuple[int, int, int], seed: int
) -> None:
    factors = (factors[0] % 3 + 1, factors[1] % 3 + 1, factors[2] % 3 + 1)
    (z, h, w), (a, b, c) = target, factors
    array = np.random.default_rng(seed).integers(-1000, 1000, (z * a, h * b, w * c)).astype(np.int16)
    expected = array.reshape(z, a, h, b, w, c).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resize_area(array, target), expected, atol=1e-3)
    np.testing.assert_allclose(resize_area(array, target).mean(dtype=np.float64), array.mean(), atol=1e-3)


@given(st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=60)
def test_weights_are_shares_of_neighbouring_voxels(source: int, target: int) -> None:
    weights = axis_weights(source, target)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1, dtype=np.float64), 1.0, atol=1e-5)
    for i, row in enumerate(weights):
        inside = np.flatnonzero(row)
        low, high = i * source / target, (i + 1) * source / target
        reach = 1.0 if target > source else 1e-6
        assert inside[0] + 1 > low - reach
        assert inside[-1] < high + reach
        assert len(inside) <= (2 if target > source else source / target + 2)


def test_growing_interpolates_at_voxel_middles() -> None:
    ramp = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    np.testing.assert_allclose(resize_area(ramp, (8, 1, 1)).ravel(), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


@given(st.integers(1, 2000), st.integers(1, 200))
@settings(max_examples=60)
def test_evenly_spaced_indices_are_valid_sorted_and_symmetric(total: int, count: int) -> None:
    indices = evenly_spaced(total, count)
    assert len(indices) == count
    assert indices.min() >= 0
    assert indices.max() < total
    steps = np.diff(indices)
    assert (steps >= 0).all()
    if count > 1:
        assert steps.max() - steps.min() <= 1
    if count <= total:
        assert len(set(indices)) == count


def test_evenly_spaced_takes_the_middles() -> None:
    assert evenly_spaced(96, 48).tolist() == list(range(1, 96, 2))
    assert evenly_spaced(5, 1).tolist() == [2]
    assert evenly_spaced(2, 4).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="at least 1"):
        evenly_spaced(0, 3)


def test_centre_crop_takes_the_middle_of_the_last_two_axes() -> None:
    array = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    np.testing.assert_array_equal(centre_crop(array, 4), array[:, 1:5, 2:6])
    tensor = torch.from_numpy(array)
    assert torch.equal(centre_crop(tensor, 4), tensor[:, 1:5, 2:6])
    with pytest.raises(ValueError, match="smaller crop"):
        centre_crop(array, 7)
