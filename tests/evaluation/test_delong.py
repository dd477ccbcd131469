import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score

from voco2d.errors import UsageError
from voco2d.evaluation.delong import area_under_curve, areas_with_covariance, compare_areas

# DeLong, DeLong and Clarke-Pearson 1988: 43 patients without missing values; albumin, total protein, K-G score and
# whether the patient benefited, as SAS/STAT's example of PROC LOGISTIC, Comparing Receiver Operating Characteristic
# Curves, prints them
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def slow(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Literal: equations 4 to 6 of the paper, every pair of a positive and a negative compared."""
    kernel = np.array([[[float(x > y) + 0.5 * (x == y) for y in s[~positive]] for x in s[positive]] for s in scores])
    m, n = kernel.shape[1:]
    areas = kernel.mean(axis=(1, 2))
    of_positives, of_negatives = kernel.mean(axis=2) - areas[:, None], kernel.mean(axis=1) - areas[:, None]
    s10, s01 = of_positives @ of_positives.T / (m - 1), of_negatives @ of_negatives.T / (n - 1)
    return areas, s10 / m + s01 / n


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 40))
def test_midranks_agree_with_all_pairs(seed: int, levels: int):
    generator = np.random.default_rng(seed)
    positive = np.arange(25) < generator.integers(2, 23)
    scores = generator.integers(levels, size=(3, 25)) / levels
    areas, covariance = areas_with_covariance(positive, scores)
    expected_areas, expected_covariance = slow(positive, scores)
    np.testing.assert_allclose(areas, expected_areas)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-15)
    assert areas == pytest.approx([roc_auc_score(positive, row) for row in scores])


def test_published_example():
    """The K-G score as that example prints it; the other two and the tests against the literal transcription."""
    albumin, protein, kg, benefit = np.array(PATIENTS.split(), dtype=float).reshape(43, 4).T
    positive, scores = benefit == 1, np.stack([10 - kg, protein, albumin])
    area = area_under_curve(positive, scores[0])
    assert [round(value, 4) for value in (area.roc_auc, area.error, area.low, area.high)] == [
        0.7258,
        0.1028,
        0.5243,
        0.9273,
    ]
    areas, covariance = slow(positive, scores)
    for model in (1, 2):
        found = compare_areas(positive, scores[0], scores[model])
        error = np.sqrt(covariance[0, 0] + covariance[model, model] - 2 * covariance[0, model])
        assert found.difference == pytest.approx(areas[model] - areas[0])
        assert found.p == pytest.approx(chi2.sf(((areas[model] - areas[0]) / error) ** 2, df=1))


def test_of_two_of_each_by_hand():
    """One of four pairs is out of order: the positives outrank 1 and 1/2 of the negatives, variance 1/8, and so on."""
    positive = np.array([True, True, False, False])
    area = area_under_curve(positive, np.array([4.0, 2, 3, 1]))
    assert area.roc_auc == 0.75
    assert area.error == pytest.approx(np.sqrt(0.125 / 2 + 0.125 / 2))
    assert area.high == 1
    assert area_under_curve(positive, np.array([1.0, 3, 2, 4])).low == 0


def test_a_difference_without_spread_is_beyond_doubt():
    positive = np.arange(6) < 3
    found = compare_areas(positive, positive.astype(float), -positive.astype(float))
    assert (found.difference, found.low, found.high, found.z, found.p) == (-1, -1, -1, -np.inf, 0)


def test_interval_covers_and_p_is_uniform():
    """Two models alike, 300 cohorts: 95 % intervals cover the true area, and 5 % of tests reject."""
    generator = np.random.default_rng(0)
    positive = np.arange(120) < 40
    truth = 0.7602  # Φ(1 / √2)
    covered = rejected = 0
    for _ in range(300):
        common = generator.normal(size=120)
        scores = positive + np.sqrt(0.5) * (common + generator.normal(size=(2, 120)))
        area = area_under_curve(positive, scores[0])
        covered += area.low <= truth <= area.high
        rejected += compare_areas(positive, scores[0], scores[1]).p < 0.05
    assert covered >= 275
    assert 5 <= rejected <= 26


def test_models_that_rank_alike_and_too_few_patients():
    positive, score = np.arange(10) < 4, np.arange(10.0) % 3
    same = compare_areas(positive, score, 5 * score)
    assert (same.difference, same.z, same.p) == (0, 0, 1)
    with pytest.raises(UsageError, match="1 patients of the class and 9 of another"):
        area_under_curve(np.arange(10) < 1, score)
