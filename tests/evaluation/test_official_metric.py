"""The edge cases of the competition's metric, against a literal transcription of what its page says it does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from voco2d.errors import LabelError
from voco2d.evaluation import rsna_score
from voco2d.evaluation.evaluate import evaluate
from voco2d.targets import CLASS_COLUMNS, TARGETS

from .test_evaluate import in_our_format

CLASSES = {
    "bowel": {"healthy": 1, "injury": 2},
    "extravasation": {"healthy": 1, "injury": 6},
    "kidney": {"healthy": 1, "low": 2, "high": 4},
    "liver": {"healthy": 1, "low": 2, "high": 4},
    "spleen": {"healthy": 1, "low": 2, "high": 4},
}


def official(solution: pd.DataFrame, submission: pd.DataFrame) -> float:
    """Per group: divide by the row's sum, weighted log loss; then any_injury as the maximum of 1 − p(healthy)."""
    submission = submission.set_index("patient_id").loc[solution["patient_id"]].reset_index()
    losses, divided = [], {}
    for group, weights in CLASSES.items():
        columns = [f"{group}_{name}" for name in weights]
        divided[group] = submission[columns].div(submission[columns].sum(axis=1), axis=0).to_numpy()
        sample_weight = (solution[columns] * list(weights.values())).sum(axis=1)
        losses.append(log_loss(solution[columns].to_numpy(), divided[group], sample_weight=sample_weight))
    healthy = [f"{group}_healthy" for group in CLASSES]
    label = (1 - solution[healthy]).max(axis=1)
    prediction = np.max([1 - rows[:, 0] for rows in divided.values()], axis=0)
    losses.append(log_loss(label, prediction, sample_weight=np.where(label == 1, 6, 1), labels=[0, 1]))
    return float(np.mean(losses))


def test_ordinary_tables(tables):
    predictions, labels = tables(50)
    assert rsna_score(predictions, labels)["mean"] == pytest.approx(official(labels, predictions), rel=1e-12)


def test_probabilities_that_do_not_sum_to_1(tables):
    predictions, labels = tables(50)
    scales = np.random.default_rng(0).uniform(0.1, 9, size=(50, len(CLASS_COLUMNS)))
    scaled = predictions.assign(**(predictions[list(CLASS_COLUMNS)] * scales).to_dict("series"))
    assert rsna_score(scaled, labels)["mean"] == pytest.approx(official(labels, scaled), rel=1e-12)
    assert "50 of 50 rows had probabilities that do not sum to 1" in evaluate(scaled, labels)["warnings"][0]


def test_zeros_and_ones(tables):
    """Certain and right costs nothing, certain and wrong −log of the smallest step of a float64, as in scikit-learn."""
    predictions, labels = tables(50)
    certain = predictions.copy()
    for target in TARGETS.values():
        columns = list(target.columns)
        certain[columns] = np.eye(len(columns))[predictions[columns].to_numpy().argmax(axis=1)]
    score = rsna_score(certain, labels)
    assert score["mean"] == pytest.approx(official(labels, certain), rel=1e-9)
    assert np.isfinite(list(score.values())).all()
    assert score["mean"] > 1


def test_only_zeros_for_a_target_and_negative_values_are_refused(tables):
    predictions, labels = tables(5)
    with pytest.raises(LabelError, match=r"row 1 \(and 4 more\) has only zeros for kidney"):
        rsna_score(predictions.assign(kidney_healthy=0.0, kidney_low=0.0, kidney_high=0.0), labels)
    with pytest.raises(LabelError, match="a negative probability"):
        rsna_score(predictions.assign(kidney_low=-0.1), labels)
    with pytest.raises(LabelError, match="non-finite"):
        rsna_score(predictions.assign(kidney_low=np.inf), labels)


def test_a_target_without_positives_keeps_its_loss_and_loses_its_rankings(tables):
    predictions, labels = tables(50)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    result = evaluate(predictions, labels, bootstrap=20)
    assert result["rsna"]["mean"] == pytest.approx(official(labels, predictions), rel=1e-12)
    for metric in ("average_precision", "roc_auc", "precision", "recall", "f1"):
        assert result["targets"]["bowel"][metric] is None
    assert result["targets"]["bowel"]["specificity"] is not None
    assert (result["map"], result["delong"]["bowel"]["injury"]) == (None, None)


def test_a_cohort_without_any_injury_is_scored(tables):
    predictions, labels = tables(20)
    for target in TARGETS.values():
        labels[list(target.columns)] = np.eye(len(target.classes))[0]
    result = evaluate(predictions, labels, bootstrap=5)
    assert result["rsna"]["mean"] == pytest.approx(official(labels, predictions), rel=1e-12)
    assert result["targets"]["any_injury"]["roc_auc"] is None


def test_missing_patients_are_left_out_and_told(tables):
    predictions, labels = tables(30)
    result = evaluate(predictions.iloc[5:], labels)
    assert result["rsna"]["mean"] == pytest.approx(official(labels.iloc[5:], predictions.iloc[5:]), rel=1e-12)
    assert result["n_patients"] == 25
    assert "5 of 30 labelled patients have no prediction and are left out" in result["warnings"]
    with pytest.raises(LabelError, match=r"5 patient\(s\) have no row in the label table"):
        evaluate(predictions, labels.iloc[5:])


def test_duplicate_rows(tables):
    """The same rows twice change nothing by maximum or mean; repeated series are told, repeated labels refused."""
    predictions, labels = tables(30)
    once = evaluate(predictions, labels)
    twice = pd.concat([predictions, predictions]).assign(series_id="1")
    for aggregate in ("max", "mean"):
        result = evaluate(twice, labels, aggregate)
        assert result["rsna"] == pytest.approx(once["rsna"])
        assert result["n_rows"] == 30
        assert "30 of 60 rows repeat the patient and series of an earlier row" in result["warnings"]
    with pytest.raises(LabelError, match="a patient that was there before"):
        evaluate(predictions, pd.concat([labels, labels]))


@pytest.mark.realdata
def test_a_real_model_a_patient_at_a_time(real_data: Path):
    """Series are divided by their sum before the maximum is taken, which moves 32-bit probabilities by 1e-10."""
    predictions = in_our_format(real_data / "rsna" / "oof" / "mil_efficientnetb0" / "oof_predictions.csv")
    labels = pd.read_csv(real_data / "rsna" / "train.csv")
    groups = predictions.groupby("patient_id", as_index=False)[list(CLASS_COLUMNS)].max()
    assert evaluate(predictions, labels)["rsna"]["mean"] == pytest.approx(official(labels, groups), rel=1e-8)
