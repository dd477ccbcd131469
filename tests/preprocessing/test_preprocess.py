from collections.abc import Callable

import numpy as np
import pytest

from voco2d.config import from_tree, to_tree
from voco2d.errors import ConfigError, ReadError
from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume, preprocess
from voco2d.types import HuVolume

DrawBody = Callable[..., HuVolume]
MakeVolume = Callable[[HuVolume], Volume]
SMALL = PreprocessArgs(size=(4, 32, 32))


def test_body_fills_the_prepared_volume(body: DrawBody, make_volume: MakeVolume) -> None:
    volume = make_volume(body((10, 128, 128), (70, 60), (30, 50)))
    prepared = prepare_volume(volume, SMALL)
    assert prepared.hu.shape == (4, 32, 32)
    assert prepared.hu.dtype == np.int16
    tissue = prepared.hu > -200
    assert tissue.any(axis=(0, 2)).mean() > 0.9
    assert tissue.any(axis=(0, 1)).mean() > 0.9
    np.testing.assert_array_equal(preprocess(volume, SMALL), prepared.hu)


def test_without_crop_the_whole_volume_is_kept(body: DrawBody, make_volume: MakeVolume) -> None:
    hu = body((10, 64, 64), (32, 32), (20, 25))
    hu[:2] = -1000
    prepared = prepare_volume(make_volume(hu), PreprocessArgs(size=(10, 64, 64), body_crop=False))
    assert prepared.box == (0, 10, 0, 64, 0, 64)
    np.testing.assert_array_equal(prepared.hu, hu)


def test_values_are_limited_before_they_are_averaged(body: DrawBody, make_volume: MakeVolume) -> None:
    hu = body((8, 64, 64), (32, 32), (25, 28))
    hu[:, :2] = -3024
    hu[:, 30:34, 30:34] = 30000
    prepared = prepare_volume(make_volume(hu), PreprocessArgs(size=(4, 32, 32), body_crop=False))
    assert prepared.hu.min() == -1024
    assert prepared.hu.max() == 3071


def test_dropped_slices_are_noted_and_the_box_leads_back(body: DrawBody, make_volume: MakeVolume) -> None:
    hu = body((12, 64, 64), (32, 32), (25, 28))
    hu += (np.arange(12, dtype=np.int16) * 10)[:, None, None]
    hu[:2], hu[10:] = -1000, -3024
    prepared = prepare_volume(make_volume(hu), PreprocessArgs(size=(4, 16, 16)))
    assert prepared.box[:2] == (2, 10)
    assert prepared.notes == ("empty slices: 4 without body dropped at the ends",)
    for index in range(4):  # the body's HU rises by 10 a slice, so that a HU tells its source slice
        assert prepared.source_voxel(index, 0, 0)[0] == pytest.approx((prepared.hu[index, 8, 8] - 40) / 10)


def test_volume_without_body_is_refused_with_the_reason(make_volume: MakeVolume) -> None:
    with pytest.raises(ReadError, match=r"somewhere/scan\.nii: no body found"):
        prepare_volume(make_volume(np.full((5, 64, 64), -1000, dtype=np.int16)), SMALL)


def test_source_is_left_alone(body: DrawBody, make_volume: MakeVolume) -> None:
    hu = body((6, 64, 64), (32, 32), (25, 28))
    hu[0, 0, 0] = -3024
    before = hu.copy()
    prepare_volume(make_volume(hu), SMALL)
    np.testing.assert_array_equal(hu, before)


def test_args_travel_as_plain_values() -> None:
    args = PreprocessArgs(size=(8, 16, 16), body_crop=False, clip_hu=(-500, 500))
    assert from_tree(PreprocessArgs, to_tree(args)) == args


@pytest.mark.parametrize("wrong", [{"size": (0, 4, 4)}, {"clip_hu": (5, 5)}, {"clip_hu": (-40000, 0)}])
def test_impossible_args_are_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        PreprocessArgs(**wrong)
