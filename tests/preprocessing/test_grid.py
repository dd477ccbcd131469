from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voco2d.errors import ConfigError
from voco2d.io.volume import Volume
from voco2d.preprocessing.grid import axis_grids, grid_span
from voco2d.preprocessing.preprocess import Prepared, PreprocessArgs, prepare_volume
from voco2d.types import HuVolume

MakeVolume = Callable[[HuVolume], Volume]
STEPS = st.tuples(*[st.sampled_from([0.4, 0.7, 1.0, 1.3, 2.0, 3.7])] * 3)


def prepare(volume: Volume, spacing_mm: tuple[float, float, float], size: tuple[int, int, int]) -> Prepared:
    return prepare_volume(volume, PreprocessArgs(size=size, spacing_mm=spacing_mm, body_crop=False))


def ramps(shape: tuple[int, int, int]) -> list[HuVolume]:
    """One volume an axis, whose HU tell the position along it: 40 HU a voxel."""
    return [(40 * index).astype(np.int16) for index in np.indices(shape)]


@given(STEPS, st.tuples(*[st.integers(1, 24)] * 3))
@settings(max_examples=60, deadline=None)
def test_voxels_lead_back_to_their_source(spacing_mm: tuple[float, float, float], size: tuple[int, int, int]) -> None:
    shape = (7, 12, 15)
    for axis, ramp in enumerate(ramps(shape)):
        volume = Volume(ramp, (2.0, 1.0, 0.8), np.eye(3), (0.0, 0.0, 0.0), "", "", "", "")
        prepared = prepare(volume, spacing_mm, size)
        drawn = np.random.default_rng(0).permutation(np.prod(size))[:300]
        for index in zip(*(axis.tolist() for axis in np.unravel_index(drawn, size)), strict=True):
            position = prepared.source_voxel(*index)
            inside = all(-0.5 <= value < count - 0.5 for value, count in zip(position, shape, strict=True))
            step = spacing_mm[axis] / volume.spacing_mm[axis]
            whole = step <= position[axis] < shape[axis] - 1 - step
            if inside and whole:
                assert prepared.hu[index] / 40 == pytest.approx(position[axis], abs=0.03 + 0.13 * (step % 1 > 0))


@given(STEPS, st.tuples(*[st.integers(1, 20)] * 3), st.integers(-900, 499))
@settings(max_examples=40, deadline=None)
def test_constants_stay_constant_and_the_rest_is_air(
    spacing_mm: tuple[float, float, float], size: tuple[int, int, int], value: int
) -> None:
    box = (0, 6, 0, 9, 0, 11)
    grids = axis_grids(box, size, (2.0, 1.0, 0.8), spacing_mm)
    for grid in grids:
        first, stop = grid.inside
        assert grid.weights[first:stop].sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert not grid.weights[:first].any()
        assert not grid.weights[stop:].any()
    hu = np.full((6, 9, 11), value, dtype=np.int16)
    hu[0, 0, 0] = 500  # a featureless volume has no body
    prepared = prepare(Volume(hu, (2.0, 1.0, 0.8), np.eye(3), (0.0, 0.0, 0.0), "", "", "", ""), spacing_mm, size)
    assert prepared.span == grid_span(box, grids)
    assert set(np.unique(prepared.hu)) - {-1024, value} <= set(range(min(value, 500), max(value, 500) + 1))


def test_whole_number_shrink_keeps_the_mean(make_volume: MakeVolume) -> None:
    hu = np.random.default_rng(0).integers(-900, 900, (8, 12, 16)).astype(np.int16)
    prepared = prepare(make_volume(hu), (4.0, 2.0, 4.0), (4, 6, 4))
    blocks = hu.reshape(4, 2, 6, 2, 4, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(prepared.hu, blocks, atol=0.51)
    assert prepared.span == (0, 8, 0, 12, 0, 16)


def test_a_smaller_size_crops_the_middle(make_volume: MakeVolume) -> None:
    hu = np.random.default_rng(0).integers(-900, 900, (6, 10, 12)).astype(np.int16)
    prepared = prepare(make_volume(hu), (2.0, 1.0, 1.0), (4, 4, 6))
    np.testing.assert_array_equal(prepared.hu, hu[1:5, 3:7, 3:9])
    assert prepared.box == (0, 6, 0, 10, 0, 12)
    assert prepared.span == (1, 5, 3, 7, 3, 9)
    assert prepared.source_voxel(0, 0, 0)[0] == pytest.approx(1)


def test_a_larger_size_pads_with_air(make_volume: MakeVolume) -> None:
    hu = np.random.default_rng(0).integers(-900, 900, (6, 10, 12)).astype(np.int16)
    prepared = prepare(make_volume(hu), (2.0, 1.0, 1.0), (8, 12, 12))
    np.testing.assert_array_equal(prepared.hu[1:7, 1:11], hu)
    assert (prepared.hu[[0, 7]] == -1024).all()
    assert (prepared.hu[:, [0, 11]] == -1024).all()
    assert prepared.span == (-1, 7, -1, 11, 0, 12)


def test_affine_leads_to_patient_millimetres(make_volume: MakeVolume) -> None:
    volume = make_volume(np.random.default_rng(0).integers(-900, 900, (6, 10, 12)).astype(np.int16))
    prepared = prepare(volume, (3.0, 1.5, 0.7), (9, 5, 14))
    index = (2, 4, 11)
    expected = volume.affine_lps @ [*prepared.source_voxel(*index), 1]
    np.testing.assert_allclose(prepared.affine_lps(volume) @ [*index, 1], expected)
    steps = np.linalg.norm(prepared.affine_lps(volume)[:3, :3], axis=0)
    np.testing.assert_allclose(steps, (3.0, 1.5, 0.7))


def test_without_spacing_the_box_is_filled(make_volume: MakeVolume) -> None:
    hu = np.random.default_rng(0).integers(-900, 900, (6, 10, 12)).astype(np.int16)
    prepared = prepare_volume(make_volume(hu), PreprocessArgs(size=(3, 5, 6), body_crop=False))
    assert prepared.span == prepared.box == (0, 6, 0, 10, 0, 12)


@pytest.mark.parametrize("spacing_mm", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan"))])
def test_impossible_spacing_is_refused(spacing_mm: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="spacing_mm"):
        PreprocessArgs(spacing_mm=spacing_mm)
