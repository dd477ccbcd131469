import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from voco2d.evaluation.ranking import weighted_average_precision, weighted_roc_auc


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(4, 60), levels=st.integers(1, 30))
def test_agrees_with_sklearn_on_repeated_rows(seed: int, rows: int, levels: int):
    """Few levels make many equal scores, each of which is one threshold."""
    generator = np.random.default_rng(seed)
    score = generator.integers(levels, size=rows) / levels
    positive = generator.uniform(size=rows) < 0.3
    times = generator.integers(3, size=(rows, 4)).astype(float)
    precision, area = (f(positive, score, times) for f in (weighted_average_precision, weighted_roc_auc))
    for draw in range(4):
        repeated = np.repeat(np.arange(rows), times[:, draw].astype(int))
        here, values = positive[repeated], score[repeated]
        if not len(repeated) or here.all() or not here.any():
            assert np.isnan(precision[draw])
            assert np.isnan(area[draw])
        else:
            assert precision[draw] == pytest.approx(average_precision_score(here, values))
            assert area[draw] == pytest.approx(roc_auc_score(here, values))


def test_closed_forms():
    positive, once = np.array([True, False, True, False]), np.ones((4, 1))
    assert weighted_average_precision(positive, np.array([4.0, 3, 2, 1]), once)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert weighted_roc_auc(positive, np.array([4.0, 3, 2, 1]), once)[0] == pytest.approx(3 / 4)
    assert weighted_average_precision(positive, np.zeros(4), once)[0] == 0.5
    assert weighted_roc_auc(positive, np.zeros(4), once)[0] == 0.5
    assert weighted_roc_auc(positive[:2], np.array([2.0, 1]), once[:2])[0] == 1
    for undefined in (np.zeros(4, dtype=bool), np.ones(4, dtype=bool)):
        assert np.isnan(weighted_roc_auc(undefined, np.arange(4.0), once)).all()
