"""Crop geometry against the paper's values, and as properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voco2d.data.crops import base_centers, cut_crops, first_pixels, overlap_labels, random_centers


def slow_overlap(center: tuple[float, float], grid: int, crop: int) -> list[float]:
    """Intersect rectangles one by one."""
    shares = []
    for row in range(grid):
        for column in range(grid):
            sides = [
                max(0.0, min(middle + crop / 2, (cell + 1) * crop) - max(middle - crop / 2, cell * crop))
                for middle, cell in zip(center, (row, column), strict=True)
            ]
            shares.append(sides[0] * sides[1] / crop**2)
    return shares


@pytest.mark.realdata
@pytest.mark.parametrize(("file", "shape"), [("voco_geometry_4x4", (50,)), ("voco_losses_dev", (3, 2))])
def test_overlaps_equal_the_papers(real_data: Path, file: str, shape: tuple[int, ...]) -> None:
    with np.load(real_data / "reference" / f"{file}.npz") as arrays:
        overlap = overlap_labels(arrays["centers"], int(arrays["grid"]), int(arrays["crop"]))
        assert overlap.shape[:-1] == shape
        np.testing.assert_allclose(overlap, arrays["overlap"], atol=1e-6)


@given(seed=st.integers(0, 2**32), grid=st.integers(2, 6), crop=st.integers(1, 100))
def test_overlaps_are_shares(seed: int, grid: int, crop: int) -> None:
    centers = random_centers(np.random.default_rng(seed), 3, grid, crop)
    overlap = overlap_labels(centers, grid, crop)
    assert overlap.shape == (3, grid * grid)
    assert overlap.min() >= 0
    assert overlap.max() <= 1
    np.testing.assert_allclose(overlap.sum(-1), 1)
    np.testing.assert_allclose(overlap[0], slow_overlap(tuple(centers[0]), grid, crop), atol=1e-9)


@given(seed=st.integers(0, 2**32), grid=st.integers(2, 6), crop=st.integers(1, 100))
def test_random_crops_lie_inside_the_slice(seed: int, grid: int, crop: int) -> None:
    starts = first_pixels(random_centers(np.random.default_rng(seed), 20, grid, crop), crop)
    assert starts.min() >= 0
    assert starts.max() + crop <= grid * crop


def test_random_crops_reach_every_place() -> None:
    starts = first_pixels(random_centers(np.random.default_rng(0), 100, 3, 2), 2)
    for axis in (0, 1):
        assert set(starts[:, axis]) == {0, 1, 2, 3, 4}


def test_tensors_give_tensors_on_batches() -> None:
    centers = torch.tensor([[[48.0, 80.0]], [[32.0, 32.0]]])
    overlap = overlap_labels(centers, 3, 64)
    assert overlap.shape == (2, 1, 9)
    assert overlap[1, 0].tolist() == [1.0, *[0.0] * 8]
    assert overlap.sum(-1).tolist() == [[1.0], [1.0]]


def test_base_crops_overlap_only_themselves() -> None:
    np.testing.assert_array_equal(overlap_labels(base_centers(3, 32), 3, 32), np.eye(9))


def test_cut_equals_slicing() -> None:
    slices = torch.arange(2 * 3 * 12 * 12, dtype=torch.float32).reshape(2, 3, 12, 12)
    corners = torch.tensor([[[0, 0], [5, 8]], [[8, 3], [2, 2]]])
    crops = cut_crops(slices, corners, 4)
    assert crops.shape == (2, 2, 3, 4, 4)
    assert torch.equal(crops[0, 1], slices[0, :, 5:9, 8:12])
    assert torch.equal(crops[1, 0], slices[1, :, 8:12, 3:7])
