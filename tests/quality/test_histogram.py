"""Fixed bins, shares and peaks."""

import numpy as np
import pytest

from voco2d.quality.histogram import COLUMNS, EDGES_HU, count_values, histogram, peak_hu, percentile


def test_shares_sum_to_one_and_keep_what_lies_outside():
    shares = histogram(count_values(np.array([-3024, -1024, 0, 3071, 9000], dtype=np.int16)))
    assert len(shares) == len(COLUMNS) == len(EDGES_HU) - 1
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == shares[-1] == pytest.approx(0.4)


def test_peak_is_found_and_a_slope_is_none():
    values = np.random.default_rng(0).normal(-100, 10, 20000).astype(np.int16)
    assert peak_hu(count_values(values), -150, -40) == pytest.approx(-100, abs=5)
    assert peak_hu(count_values(values + 70), -150, -40) is None
    assert peak_hu(count_values(values[:10]), -150, -40) is None


def test_counts_give_what_numpy_gives_from_the_values():
    values = np.random.default_rng(1).integers(-1024, 3072, 5001).astype(np.int16)
    counts = count_values(values)
    for share in (0, 1, 33.3, 50, 99, 100):
        assert percentile(counts, share) == pytest.approx(np.percentile(values, share))
    expected, _ = np.histogram(values, bins=np.asarray(EDGES_HU))
    np.testing.assert_allclose(histogram(counts), expected / values.size)


def test_a_bump_on_a_slope_is_no_peak():
    # a scan of a head with a tilted gantry was called odd for 1 % more voxels at -50 HU than at -45
    counts = np.zeros(2**16, dtype=np.int64)
    slope = np.arange(-150, -40)
    counts[slope + 2**15] = 1000 + 20 * (slope + 150)
    counts[np.arange(-50, -45) + 2**15] = 3150
    assert peak_hu(counts, -150, -40) is None
    counts[np.arange(-50, -45) + 2**15] = 3600
    assert peak_hu(counts, -150, -40) == -47.5
