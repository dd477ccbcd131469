import numpy as np
import pytest

from voco2d.errors import ConfigError
from voco2d.preprocessing.readout import ReadoutArgs, check_readout, read_out, select_slices

HU = np.random.default_rng(0).integers(-1000, 1000, (12, 20, 24)).astype(np.int16)
ARGS = ReadoutArgs(slices=4, crop=16, window=(-200.0, 200.0))


def test_centre_crop_is_windowed_and_repeatable() -> None:
    seen = read_out(HU, ARGS)
    assert seen.shape == (4, 16, 16)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen, read_out(HU, ARGS))
    expected = np.clip((HU[[1, 4, 7, 10], 2:18, 4:20].astype(float) + 200) / 400, 0, 1)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_random_crop_depends_on_the_generator_alone() -> None:
    first = read_out(HU, ARGS, np.random.default_rng(5))
    np.testing.assert_array_equal(first, read_out(HU, ARGS, np.random.default_rng(5)))
    seen = [read_out(HU, ARGS, np.random.default_rng(seed)) for seed in range(8)]
    assert any(not np.array_equal(first, other) for other in seen)


def test_selecting_slices_twice_changes_nothing() -> None:
    kept = select_slices(HU, ARGS)
    np.testing.assert_array_equal(read_out(kept, ARGS), read_out(HU, ARGS))


def test_the_whole_slice_may_be_asked_for() -> None:
    square = HU[:, :, :20]
    assert read_out(square, ReadoutArgs(slices=12, crop=20), np.random.default_rng(0)).shape == (12, 20, 20)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (ReadoutArgs(slices=13, crop=16), "readout.slices=13: the prepared volumes have 12"),
        (ReadoutArgs(slices=0, crop=16), "readout.slices=0"),
        (ReadoutArgs(slices=4, crop=21), "readout.crop=21: the prepared slices are 20 x 24"),
        (ReadoutArgs(slices=4, crop=16, window=(100.0, 100.0)), "readout.window"),
    ],
)
def test_asking_for_more_than_there_is_names_the_key(args: ReadoutArgs, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_readout(args, (12, 20, 24))
