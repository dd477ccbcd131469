import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from voco2d.evaluation import rsna_score
from voco2d.evaluation.pairing import pair, with_any_injury
from voco2d.evaluation.rsna_score import EPSILON, rsna_organs, score_parts
from voco2d.targets import CLASS_COLUMNS, RSNA_2023, TARGETS

from .conftest import random_tables


def test_agrees_with_sklearn(tables):
    predictions, labels = tables(80)
    score = rsna_score(predictions, labels)
    paired = pair(predictions, labels, "none")
    for name, target in RSNA_2023.scored.items():
        truth = paired.truth[name]
        expected = log_loss(
            truth,
            paired.probabilities[name],
            sample_weight=np.asarray(target.weights)[truth],
            labels=range(len(target.classes)),
        )
        assert score[name] == pytest.approx(expected, rel=1e-12)
    assert score["mean"] == pytest.approx(np.mean([score[name] for name in RSNA_2023.scored]))
    assert rsna_organs(score) == pytest.approx((score["kidney"] + score["liver"] + score["spleen"]) / 3)


def test_closed_form_of_two_patients(tables):
    predictions, labels = tables(2)
    labels[list(CLASS_COLUMNS)] = 0.0
    labels[[target.columns[0] for target in TARGETS.values()]] = 1.0
    labels.loc[1, ["spleen_healthy", "spleen_high"]] = [0.0, 1.0]
    for target in TARGETS.values():
        predictions[list(target.columns)] = 1 / len(target.classes)
    score = rsna_score(predictions, labels)
    assert score["bowel"] == pytest.approx(np.log(2))
    assert score["spleen"] == pytest.approx(np.log(3))
    # any injury is called with 1 − 1/3 everywhere: weight 1 on the healthy patient, 6 on the injured one
    assert score["any_injury"] == pytest.approx((-np.log(1 / 3) - 6 * np.log(2 / 3)) / 7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), order=st.integers(0, 2**16))
def test_does_not_depend_on_the_order_of_rows(seed: int, order: int):
    predictions, labels = random_tables(12, seed)
    shuffled = rsna_score(predictions.sample(frac=1, random_state=order), labels.sample(frac=1, random_state=order + 1))
    assert shuffled == pytest.approx(rsna_score(predictions, labels))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 100), target=st.sampled_from(sorted(TARGETS)))
def test_does_not_depend_on_the_scale_of_a_target(scale: float, target: str):
    predictions, labels = random_tables(12)
    columns = list(TARGETS[target].columns)
    scaled = predictions.assign(**{column: predictions[column] * scale for column in columns})
    assert rsna_score(scaled, labels) == pytest.approx(rsna_score(predictions, labels))


def test_one_healthy_patient_has_a_score(tables):
    """All weights are 1 then, and their sum."""
    predictions, labels = tables(1, healthy_share=1.0)
    assert rsna_score(predictions, labels)["bowel"] == pytest.approx(-np.log(predictions["bowel_healthy"][0]))


def test_perfect_predictions_cost_nothing_and_wrong_ones_stay_finite(tables):
    _, labels = tables(30)
    assert rsna_score(labels, labels)["mean"] == pytest.approx(-np.log(1 - EPSILON), rel=1e-6, abs=0)
    wrong = labels.copy()
    for target in TARGETS.values():
        wrong[list(target.columns)] = np.roll(labels[list(target.columns)].to_numpy(), 1, axis=1)
    assert rsna_score(wrong, labels)["bowel"] == pytest.approx(-np.log(EPSILON))


def test_renormalised_rows_are_told(tables, caplog):
    predictions, labels = tables(3)
    with caplog.at_level(logging.INFO):
        rsna_score(predictions.assign(bowel_injury=3.0), labels)
    assert "3 of 3 rows" in caplog.text


@pytest.mark.realdata
def test_class_priors_alone_score_what_is_published(real_data: Path):
    labels = pd.read_csv(real_data / "rsna" / "train.csv")
    shares = labels[list(CLASS_COLUMNS)].mean()
    weights = np.concatenate([target.weights for target in TARGETS.values()])
    assert _score_of_one_row_for_all(shares, labels) == pytest.approx(0.786, abs=1e-3)
    assert _score_of_one_row_for_all(shares * weights, labels) == pytest.approx(0.609, abs=1e-3)
    assert _best_score_of_one_row_for_all(shares * weights, labels) == pytest.approx(0.579, abs=1e-3)


def _score_of_one_row_for_all(values: pd.Series, labels: pd.DataFrame) -> float:
    return rsna_score(labels[["patient_id"]].assign(**values.to_dict()), labels)["mean"]


def _best_score_of_one_row_for_all(start: pd.Series, labels: pd.DataFrame) -> float:
    paired = pair(labels, labels, "none")

    def score(logs: np.ndarray) -> float:
        values = dict(zip(CLASS_COLUMNS, np.exp(logs), strict=True))
        one = {name: np.array([[values[column] for column in t.columns]]) for name, t in TARGETS.items()}
        one = with_any_injury({name: row / row.sum() for name, row in one.items()})
        every = {name: np.repeat(row, len(paired), axis=0) for name, row in one.items()}
        return score_parts(replace(paired, probabilities=every))["mean"]

    best = minimize(score, np.log(start.to_numpy()), method="Powell", options={"maxiter": 4})
    return float(best.fun)


@pytest.mark.filterwarnings("error")
def test_a_target_that_nobody_has_a_label_of_has_no_score(tables):
    predictions, labels = tables(6)
    paired = pair(predictions, labels, "none")
    parts = score_parts(replace(paired, truth={**paired.truth, "liver": np.full(6, -1)}))
    assert np.isnan(parts["liver"])
    assert np.isnan(parts["mean"])
    assert parts["bowel"] == score_parts(paired)["bowel"]
