import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from voco2d.errors import UsageError
from voco2d.evaluation.calibration import brier_score, expected_calibration_error, reliability_curve


def test_agrees_with_sklearn():
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=500)
    positive = generator.uniform(size=500) < probability**2
    curve = reliability_curve(positive, probability)
    observed, predicted = calibration_curve(positive, probability, n_bins=10)
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    assert curve.count.sum() == 500
    assert brier_score(positive, probability) == pytest.approx(brier_score_loss(positive, probability))


def test_closed_forms():
    positive = np.array([True, False, True, False])
    assert expected_calibration_error(positive, np.full(4, 0.5)) == 0
    assert expected_calibration_error(positive, np.ones(4)) == pytest.approx(0.5)
    assert expected_calibration_error(positive, positive.astype(float)) == 0
    assert brier_score(positive, np.full(4, 0.5)) == 0.25


def test_one_bin_holds_all():
    curve = reliability_curve(np.array([True, False]), np.array([0.2, 1.0]), bins=1)
    assert (curve.predicted.tolist(), curve.observed.tolist(), curve.count.tolist()) == ([0.6], [0.5], [2])
    positive, probability = np.array([True, False]), np.array([0.2, 0.9])
    assert expected_calibration_error(positive, probability, bins=1) == pytest.approx(0.05)
    assert expected_calibration_error(positive, probability) == pytest.approx(0.85)  # one row a bin


def test_no_rows_or_bins_are_an_error():
    with pytest.raises(UsageError, match="0 rows"):
        reliability_curve(np.zeros(0, dtype=bool), np.zeros(0))
    with pytest.raises(UsageError, match="0 bins"):
        reliability_curve(np.ones(1, dtype=bool), np.ones(1), bins=0)
