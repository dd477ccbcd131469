import time

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.pairing import Paired, pair
from voco2d.evaluation.scores import point_scores
from voco2d.evaluation.significance import intervals, paired_difference, resampled_scores


def leaves(tree: dict, path: str = "") -> dict:
    found = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and "difference" not in value
        found |= leaves(value, f"{path}{key}.") if nested else {path + key: value}
    return found


def test_a_resample_scores_as_the_rows_it_repeats(tables):
    """The vectorised scores equal scikit-learn's on a table in which each patient stands as often as it was drawn."""
    predictions, labels = tables(60)
    predictions = predictions.round(1).replace(0.0, 0.05)  # equal scores must form one threshold
    paired = pair(predictions, labels)
    resampled = leaves(resampled_scores(paired, 5, seed=3))
    generator = np.random.default_rng(3)
    _, place = np.unique(np.asarray(paired.patient_ids), return_inverse=True)
    for draw in range(5):
        times = np.bincount(generator.integers(60, size=60), minlength=60)[place]
        rows = np.repeat(np.arange(60), times)
        repeated = Paired(
            patient_ids=tuple(paired.patient_ids[row] for row in rows),
            probabilities={name: values[rows] for name, values in paired.probabilities.items()},
            truth={name: values[rows] for name, values in paired.truth.items()},
        )
        expected = leaves(point_scores(repeated))
        assert {key: values[draw] for key, values in resampled.items()} == pytest.approx(expected, nan_ok=True)


def test_rows_of_a_patient_are_drawn_together(tables):
    predictions, labels = tables(30)
    once = resampled_scores(pair(predictions, labels, "none"), 20, seed=0)
    twice = resampled_scores(pair(pd.concat([predictions, predictions]), labels, "none"), 20, seed=0)
    np.testing.assert_allclose(once["rsna"]["mean"], twice["rsna"]["mean"])


def test_the_seed_decides_and_the_size_of_blocks_does_not(tables, monkeypatch):
    paired = pair(*tables(30))
    here = resampled_scores(paired, 20, seed=1)["map"]
    monkeypatch.setattr("voco2d.evaluation.significance._CELLS_AT_ONCE", 100)
    np.testing.assert_array_equal(here, resampled_scores(paired, 20, seed=1)["map"])
    assert not np.array_equal(here, resampled_scores(paired, 20, seed=2)["map"])


def test_interval_of_a_mean_agrees_with_its_standard_error(tables):
    paired = pair(*tables(300))
    low, high = intervals(point_scores(paired), resampled_scores(paired, 1000, seed=0))["targets"]["liver"]["log_loss"]
    probabilities, truth = paired.probabilities["liver"], paired.truth["liver"]
    losses = -np.log(probabilities[np.arange(300), truth])
    error = losses.std() / np.sqrt(300)
    assert low == pytest.approx(losses.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(losses.mean() + 1.96 * error, abs=0.3 * error)


def test_an_undefined_score_has_no_interval(tables):
    predictions, labels = tables(40)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    paired = pair(predictions, labels)
    found = intervals(point_scores(paired), resampled_scores(paired, 10, seed=0))
    assert found["targets"]["bowel"]["roc_auc"] is None
    assert found["map"] is None
    assert found["rsna"]["mean"] is not None


def test_paired_difference(tables):
    predictions, labels = tables(100)
    worse = predictions.copy()
    columns = ["bowel_healthy", "bowel_injury"]
    worse[columns] = worse[columns].to_numpy()[:, ::-1]
    difference = paired_difference(pair(worse, labels), pair(predictions, labels), bootstrap=200)
    bowel = difference["rsna"]["bowel"]
    assert bowel["low"] < bowel["difference"] < bowel["high"] < 0
    assert difference["targets"]["bowel"]["roc_auc"]["low"] > 0
    assert difference["targets"]["liver"]["roc_auc"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    # paired: the interval is narrower than that of either model alone
    alone = intervals(point_scores(pair(predictions, labels)), resampled_scores(pair(predictions, labels), 200, seed=0))
    spread = difference["rsna_organs"]["high"] - difference["rsna_organs"]["low"]
    assert spread < alone["rsna_organs"][1] - alone["rsna_organs"][0]


def test_different_patients_cannot_be_paired(tables):
    predictions, labels = tables(10)
    with pytest.raises(LabelError, match="different patients"):
        paired_difference(pair(predictions, labels), pair(predictions.iloc[1:], labels))


def test_no_resamples_are_an_error(tables):
    with pytest.raises(UsageError, match="1000"):
        resampled_scores(pair(*tables(10)), 0, seed=0)


def test_a_thousand_resamples_of_400_patients_take_seconds(tables):
    paired = pair(*tables(400))
    begun = time.process_time()
    resampled_scores(paired, 1000, seed=0)
    assert time.process_time() - begun < 10
