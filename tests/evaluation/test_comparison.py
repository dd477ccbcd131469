import itertools
import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import log_loss, recall_score, roc_auc_score

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.alignment import align
from voco2d.evaluation.comparison import compare, estimate
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.significance import paired_difference
from voco2d.targets import CLASS_COLUMNS

HEADLINES = ("rsna", "rsna_organs", "map", "precision", "recall")
COLUMNS = list(CLASS_COLUMNS)


def noisy(predictions: pd.DataFrame, seed: int, spread: float = 0.5) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(scale=spread, size=(len(predictions), len(COLUMNS)))
    return predictions.assign(**(predictions[COLUMNS] * np.exp(noise)).to_dict("series"))


def sharpened(predictions: pd.DataFrame, labels: pd.DataFrame, gain: float) -> pd.DataFrame:
    return predictions.assign(**(predictions[COLUMNS] * np.exp(gain * labels[COLUMNS])).to_dict("series"))


def test_values_are_means_over_seeds_of_what_evaluate_reports(tables):
    predictions, labels = tables(80)
    first, second = [noisy(predictions, 1), noisy(predictions, 2)], [noisy(predictions, 3), noisy(predictions, 4)]
    for row in compare(labels, first, second, HEADLINES, 20, permutations=20):
        for tables_of_arm, value in ((first, row.first), (second, row.second)):
            scores = [evaluate(table, labels) for table in tables_of_arm]
            each = [score["rsna"]["mean"] if row.metric == "rsna" else score[row.metric] for score in scores]
            assert value == pytest.approx(np.mean(each))
        assert row.difference == pytest.approx(row.second - row.first)
        assert row.better == ((row.difference < 0) == row.metric.startswith("rsna"))


def test_interval_of_one_seed_is_that_of_the_paired_bootstrap(tables):
    predictions, labels = tables(80)
    worse = noisy(predictions, 1)
    tree = paired_difference(pair(worse, labels), pair(predictions, labels), bootstrap=100, seed=7)
    rows = {row.metric: row for row in compare(labels, [worse], [predictions], HEADLINES, 100, 7, permutations=10)}
    for metric, row in rows.items():
        leaf = tree["rsna"]["mean"] if metric == "rsna" else tree[metric]
        assert (row.difference, row.low, row.high) == pytest.approx((leaf["difference"], leaf["low"], leaf["high"]))


def test_bootstrap_of_seeds_agrees_with_a_slow_one(tables):
    """Literal: score every seed on the rows drawn, then average the seeds, or the seeds drawn."""
    predictions, labels = tables(40)
    arm = [noisy(predictions, seed) for seed in range(3)]
    aligned = align(labels, arm)
    generator = np.random.default_rng(5)
    rows = [generator.integers(40, size=40) for _ in range(30)]
    seeds = np.random.default_rng([5, 1]).integers(3, size=(3, 30))
    loss = [-np.log(p.probabilities["liver"][np.arange(40), p.truth["liver"]]) for p in aligned]
    every = [np.mean([values[drawn].mean() for values in loss]) for drawn in rows]
    some = [np.mean([loss[s][drawn].mean() for s in seeds[:, draw]]) for draw, drawn in enumerate(rows)]
    for resample_seeds, expected in ((False, every), (True, some)):
        (found,) = estimate(labels, arm, ["liver.log_loss"], 30, 5, resample_seeds=resample_seeds)
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))
        assert found.seeds == pytest.approx([values.mean() for values in loss])
        assert found.value == pytest.approx(np.mean(found.seeds))


def test_permutation_of_a_mean_agrees_with_scipys_exact_one(tables):
    predictions, labels = tables(10)
    other = sharpened(noisy(predictions, 1, 1.0), labels, 0.4)
    aligned = align(labels, [predictions, other])
    losses = [-np.log(paired.probabilities["liver"][np.arange(10), paired.truth["liver"]]) for paired in aligned]
    exact = permutation_test(losses, lambda a, b, axis: np.mean(b - a, axis=axis), permutation_type="samples")
    (row,) = compare(labels, [predictions], [other], ["liver.log_loss"], 10, permutations=40_000)
    assert row.p == pytest.approx(exact.pvalue, abs=0.01)


def test_permutation_of_several_seeds_agrees_with_all_exchanges_written_out(tables):
    """Literal: exchange whole patients in the tables of every seed and score both arms anew with scikit-learn."""
    predictions, labels = tables(7)
    first = [noisy(predictions, 1), noisy(predictions, 2)]
    second = [sharpened(noisy(predictions, seed), labels, 0.5) for seed in (3, 4)]
    aligned = align(labels, [*first, *second])
    truth, liver = aligned[0].truth["liver"], np.stack([table.probabilities["liver"] for table in aligned])
    assert set(truth) == {0, 1, 2}

    def scores(arm: np.ndarray) -> np.ndarray:
        each = []
        for seed in arm:
            areas = [roc_auc_score(truth == grade, seed[:, grade]) for grade in range(3)]
            recalls = recall_score(truth, seed.argmax(axis=1), average="macro", zero_division=0.0)
            each.append([log_loss(truth, seed, labels=range(3)), np.mean(areas), recalls])
        return np.mean(each, axis=0)

    observed = np.abs(scores(liver[2:]) - scores(liver[:2]))
    reached = np.zeros(3)
    for pattern in itertools.product([False, True], repeat=7):
        moved = np.array(pattern)[:, None]
        mine, theirs = np.where(moved, liver[2:], liver[:2]), np.where(moved, liver[:2], liver[2:])
        reached += np.abs(scores(theirs) - scores(mine)) >= observed - 1e-9
    metrics = ("liver.log_loss", "liver.roc_auc", "liver.recall")
    rows = compare(labels, first, second, metrics, 10, permutations=40_000)
    assert [row.p for row in rows] == pytest.approx(list(reached / 2**7), abs=0.01)


def test_equal_arms_are_no_better_and_a_clear_gain_is_found(tables):
    predictions, labels = tables(150)
    for row in compare(labels, [predictions], [predictions], HEADLINES, 50, permutations=99):
        assert (row.difference, row.low, row.high, row.p, row.better) == (0, 0, 0, 1, None)
    for row in compare(labels, [predictions], [sharpened(predictions, labels, 1.0)], HEADLINES, 200, permutations=999):
        assert row.better
        assert row.p == 0.001
        assert row.low > 0 or row.high < 0


def test_p_of_arms_that_are_alike_is_uniform(tables):
    """Both arms are the same model with other noise: of 60 tests at 20 % about 12 should reject."""
    predictions, labels = tables(40)
    rejected = 0
    for trial in range(60):
        arms = [noisy(predictions, 2 * trial)], [noisy(predictions, 2 * trial + 1)]
        rejected += compare(labels, *arms, ["rsna"], 1, permutations=99)[0].p <= 0.2
    assert 4 <= rejected <= 22


def test_order_of_rows_does_not_matter_and_seeds_decide(tables):
    predictions, labels = tables(30)
    other = noisy(predictions, 1)
    here = compare(labels, [predictions], [other], HEADLINES, 50, 1, permutations=50)
    there = compare(labels.sample(frac=1), [predictions.sample(frac=1)], [other], HEADLINES, 50, 1, permutations=50)
    assert [vars(row) for row in here] == [pytest.approx(vars(row)) for row in there]
    assert here != compare(labels, [predictions], [other], HEADLINES, 50, 2, permutations=50)


def test_undefined_is_nan(tables):
    predictions, labels = tables(30)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    row, loss = compare(labels, [predictions], [noisy(predictions, 1)], ["map", "rsna"], 20, permutations=20)
    assert np.isnan([row.first, row.second, row.difference, row.low, row.high, row.p]).all()
    assert row.better is None
    assert 0 < loss.p <= 1


def test_wrong_use_is_an_error(tables):
    predictions, labels = tables(10)
    with pytest.raises(UsageError, match="as many of both"):
        compare(labels, [predictions], [predictions] * 2, ["rsna"])
    with pytest.raises(UsageError, match="no prediction table"):
        compare(labels, [], [], ["rsna"])
    with pytest.raises(UsageError, match="unknown"):
        compare(labels, [predictions], [predictions], ["accuracy"])
    with pytest.raises(UsageError, match="resamples"):
        compare(labels, [predictions], [predictions], ["rsna"], 0)
    with pytest.raises(UsageError, match="permutations"):
        compare(labels, [predictions], [predictions], ["rsna"], permutations=0)
    with pytest.raises(UsageError, match="use max"):
        compare(labels, [predictions], [predictions], ["rsna"], aggregate="none")
    with pytest.raises(LabelError, match="different patients"):
        compare(labels, [predictions], [predictions.iloc[1:]], ["rsna"])


def test_a_thousand_resamples_of_400_patients_and_60_comparisons_take_seconds(tables):
    """Four metrics at once count as four comparisons; processor time, so that a busy machine does not matter."""
    predictions, labels = tables(400, healthy_share=0.9)
    arm = [noisy(predictions, seed) for seed in range(3)]
    begun = time.process_time()
    compare(labels, arm, arm[::-1], HEADLINES[:4], 1000, permutations=1000)
    assert 15 * (time.process_time() - begun) < 60
