import numpy as np
import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.preprocessing.readout import ReadoutArgs, check_readout, read_channels, read_out, window_channels

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


def test_neighbours_and_windows_are_channels() -> None:
    args = ReadoutArgs(4, 16, (-200.0, 200.0), neighbours=2, more_windows=((0.0, 100.0),))
    seen = read_channels(HU, args)
    assert seen.shape == (4, args.channels, 16, 16) == (4, 10, 16, 16)
    for row, middle in enumerate([1, 4, 7, 10]):
        for column, z in enumerate(np.clip(range(middle - 2, middle + 3), 0, 11)):
            cropped = HU[z, 2:18, 4:20].astype(float)
            np.testing.assert_allclose(seen[row, column], np.clip((cropped + 200) / 400, 0, 1), atol=1e-6)
            np.testing.assert_allclose(seen[row, 5 + column], np.clip(cropped / 100, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(seen[:, 2], read_out(HU, ARGS))


@pytest.mark.parametrize("more", [(), ((0.0, 100.0),)])
def test_tensors_are_windowed_to_the_bit_as_arrays_are(more: tuple[tuple[float, float], ...]) -> None:
    args = ReadoutArgs(4, 16, more_windows=more)
    stacks = HU.reshape(2, 6, 1, 20, 24)
    np.testing.assert_array_equal(
        window_channels(torch.from_numpy(stacks), args).numpy(), window_channels(stacks, args)
    )


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
        (ReadoutArgs(slices=4, crop=16, more_windows=((5.0, 1.0),)), "readout.more_windows"),
    ],
)
def test_asking_for_more_than_there_is_names_the_key(args: ReadoutArgs, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_readout(args, (12, 20, 24))
