"""Fixed bins, shares and peaks."""

import numpy as np
import pytest

from voco2d.quality.histogram import COLUMNS, EDGES_HU, histogram, peak_hu


def test_shares_sum_to_one_and_keep_what_lies_outside():
    shares = histogram(np.array([-3024, -1024, 0, 3071, 9000], dtype=np.int16))
    assert len(shares) == len(COLUMNS) == len(EDGES_HU) - 1
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == shares[-1] == pytest.approx(0.4)


def test_peak_is_found_and_a_slope_is_none():
    values = np.random.default_rng(0).normal(-100, 10, 20000)
    assert peak_hu(values, -150, -40) == pytest.approx(-100, abs=5)
    assert peak_hu(values + 70, -150, -40) is None
    assert peak_hu(values[:10], -150, -40) is None
