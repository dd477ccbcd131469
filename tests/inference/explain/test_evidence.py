from dataclasses import dataclass

import numpy as np
import pytest

from voco2d.inference.explain.evidence import HIDDEN_SLICES, hide_slices, log_odds
from voco2d.targets import TARGETS


@dataclass
class BrightRuntime:
    """Its log-odds are those of the brightest slice, times `slope`."""

    slope: float
    name: str = ""
    sha256: str = ""
    device: str = "cpu"
    feature_distance: None = None

    def logits(self, slices):
        level = np.float32(self.slope * slices.mean(axis=(1, 2, 3)).max())
        return {
            name: np.array([0] + [level] * (len(target.classes) - 1), np.float32) for name, target in TARGETS.items()
        }


def test_log_odds_sum_the_grades_of_an_injury():
    logits = {
        name: np.log([1.0, 2.0, 3.0][: len(target.classes)], dtype=np.float32) for name, target in TARGETS.items()
    }
    found = log_odds(logits)
    assert found["bowel"] == pytest.approx(np.log(2))
    assert found["spleen"] == pytest.approx(np.log(5))


@pytest.mark.parametrize("place", [0, 5, 10])
def test_hiding_the_slice_that_matters_lets_the_log_odds_fall_and_hiding_others_does_not(place):
    slices = np.zeros((11, 1, 4, 4), np.float32)
    slices[place] = 1
    first, second = hide_slices([BrightRuntime(3.0), BrightRuntime(6.0)], slices)
    curve = first["bowel"].curves[HIDDEN_SLICES]
    assert curve[place] == pytest.approx(3 * (1 - 1 / 11), rel=1e-5)  # the mean slice takes its place
    assert curve.max() == curve[place]
    far = np.abs(np.arange(11) - place) > 2
    np.testing.assert_allclose(curve[far], 0, atol=1e-6)
    np.testing.assert_allclose(second["bowel"].curves[HIDDEN_SLICES], 2 * curve, rtol=1e-5)
    assert first["bowel"].heat is None


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_slices_are_hidden_together(count):
    slices = np.random.default_rng(0).random((count, 1, 4, 4), dtype=np.float32)
    (found,) = hide_slices([BrightRuntime(1.0)], slices)
    assert np.isfinite(found["liver"].curves[HIDDEN_SLICES]).all()
