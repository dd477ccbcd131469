from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voco2d.io.nifti import read_nifti
from voco2d.io.source import ReadArgs, Source
from voco2d.io.volume import Volume
from voco2d.preprocessing.partial_slices import PartialSlices, find_partial_slices
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.types import HuVolume

DrawBody = Callable[..., HuVolume]


@pytest.fixture
def scan(body: DrawBody) -> HuVolume:
    """Twenty noisy slices in a round field of view."""
    hu = body((20, 256, 256), (128, 128), (80, 105))
    noise = np.random.default_rng(0).normal(0, 12, hu.shape)
    hu = np.maximum(hu + noise, -1024).astype(np.int16)
    rows, columns = np.mgrid[:256, :256]
    hu[:, (rows - 128) ** 2 + (columns - 128) ** 2 > 127**2] = -1024
    return hu


def test_whole_volume_keeps_all_slices(scan: HuVolume) -> None:
    assert find_partial_slices(scan) == PartialSlices((0, 20), 0, 0)


def test_black_rows_and_sectors_at_both_ends_go(scan: HuVolume) -> None:
    scan[0, 100:] = -1024
    scan[1, 120:] = -1024
    rows, columns = np.mgrid[:256, :256]
    scan[19, (rows > 128) & (columns > rows)] = -3024
    assert find_partial_slices(scan) == PartialSlices((2, 19), 3, 0)


def test_the_same_rows_black_on_several_slices_go(scan: HuVolume) -> None:
    scan[16:, :140] = -1024
    assert find_partial_slices(scan) == PartialSlices((0, 16), 4, 0)


def test_black_slices_outside_partly_black_ones_go_with_them(scan: HuVolume) -> None:
    scan[17, 120:] = -1024
    scan[18:] = -1024
    assert find_partial_slices(scan) == PartialSlices((0, 17), 1, 0)


def test_partly_black_slices_inside_stay(scan: HuVolume) -> None:
    scan[4, 120:] = -1024
    scan[12, :, :128] = -1024
    assert find_partial_slices(scan) == PartialSlices((0, 20), 0, 2)


def test_no_more_than_a_quarter_goes_at_one_end(scan: HuVolume) -> None:
    scan[:9, 120:] = -1024
    found = find_partial_slices(scan)
    assert found.ends == (0, 20)
    assert found.dropped == 0


def test_a_body_that_ends_stays(body: DrawBody) -> None:
    slices = [body((1, 256, 256), (128, 128), (80 * share, 105 * share)) for share in np.linspace(0.4, 1, 8)]
    blurred = [np.maximum(plane, np.roll(plane, 1, 1) // 2 + plane // 2) for plane in slices]
    hu = np.where(np.concatenate(blurred) <= -900, -1024, np.concatenate(blurred)).astype(np.int16)
    assert find_partial_slices(hu).ends == (0, 8)


def test_gas_at_the_floor_stays(scan: HuVolume) -> None:
    scan[19, 100:130, 80:170] = -1024
    assert find_partial_slices(scan).ends == (0, 20)


def test_windowed_volumes_are_left_alone(scan: HuVolume) -> None:
    windowed = np.clip(scan, -150, 250)
    windowed[0, 120:] = -150
    assert find_partial_slices(windowed) == PartialSlices((0, 20), 0, 0)


def test_dropping_is_noted_and_can_be_switched_off(scan: HuVolume, make_volume: Callable[[HuVolume], Volume]) -> None:
    scan[0, 100:] = -1024
    scan[10, 100:] = -1024
    volume = make_volume(scan)
    dropped = prepare_volume(volume, PreprocessArgs(size=(4, 16, 16)))
    assert dropped.box[:2] == (1, 20)
    assert dropped.notes == ("partial slices: 1 dropped, 1 kept inside",)
    kept = prepare_volume(volume, PreprocessArgs(size=(4, 16, 16), drop_partial=False))
    assert kept.box[:2] == (0, 20)
    assert kept.notes == ("partial slices: 1 kept at the ends, 1 kept inside",)


@given(st.tuples(st.integers(1, 8), st.integers(1, 24), st.integers(1, 24)), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_ends_lie_within_any_volume(shape: tuple[int, int, int], seed: int) -> None:
    hu = np.random.default_rng(seed).choice(np.array([-1024, 40], dtype=np.int16), shape)
    first, stop = find_partial_slices(hu).ends
    assert 0 <= first < stop <= shape[0]
    assert stop - first >= shape[0] / 2


@pytest.mark.realdata
def test_no_real_volume_loses_a_slice(real_data: Path) -> None:
    files = [file for file in sorted((real_data / "abdomen").rglob("*.nii.gz")) if "labels" not in file.name]
    assert len(files) >= 10
    for file in files:
        volume, _ = read_nifti(Source("nifti", file, (file,)), ReadArgs())
        assert find_partial_slices(volume.hu) == PartialSlices((0, volume.hu.shape[0]), 0, 0), file.name
