from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from voco2d.errors import UsageError
from voco2d.evaluation.alignment import choose_rows
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.scaling import Scaler, cross_scaled, fit_scaler, fit_scalers, scale_table
from voco2d.evaluation.tables import read_label_table
from voco2d.targets import TARGETS

from .test_evaluate import in_our_format


def folds_of(labels: pd.DataFrame, folds: int = 3) -> pd.Series:
    return pd.Series(np.arange(len(labels)) % folds, index=labels["patient_id"])


def too_certain(generator: np.random.Generator, rows: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes drawn from probabilities, and the probabilities to the power `temperature`."""
    logits = generator.normal(scale=1.5, size=(rows, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (generator.uniform(size=(rows, 1)) > true.cumsum(axis=1)).sum(axis=1)
    sharp = true**temperature
    return sharp / sharp.sum(axis=1, keepdims=True), truth


def test_the_temperature_that_made_them_too_certain_is_found():
    probabilities, truth = too_certain(np.random.default_rng(0), 20_000, 2.5)
    assert fit_scaler(probabilities, truth).temperature == pytest.approx(2.5, rel=0.03)


def test_temperature_agrees_with_a_search_by_scikit_learns_log_loss():
    probabilities, truth = too_certain(np.random.default_rng(1), 300, 1.7)

    def loss(temperature: float) -> float:
        powers = probabilities ** (1 / temperature)
        return log_loss(truth, powers / powers.sum(axis=1, keepdims=True), labels=range(3))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-8})
    scaler = fit_scaler(probabilities, truth)
    assert scaler.temperature == pytest.approx(best.x, rel=1e-4)
    assert scaler.factors == (1, 1, 1)
    assert log_loss(truth, scaler(probabilities), labels=range(3)) == pytest.approx(best.fun)


def test_factors_of_two_classes_agree_with_logistic_regression(tables):
    """A slope and a factor on two classes are the slope and the intercept on the logit, rows weighted."""
    predictions, labels = tables(300)
    paired = pair(predictions, labels)
    probabilities, truth = paired.probabilities["bowel"], paired.truth["bowel"]
    weights = np.where(truth > 0, 2.0, 1.0)
    logit = np.log(probabilities[:, 1:] / probabilities[:, :1])
    expected = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(logit, truth, weights)
    scaler = fit_scalers(paired, "classes")["bowel"]
    assert 1 / scaler.temperature == pytest.approx(expected.coef_[0, 0], rel=1e-3)
    assert np.log(scaler.factors[1]) == pytest.approx(expected.intercept_[0], abs=1e-3)
    np.testing.assert_allclose(scaler(probabilities), expected.predict_proba(logit), atol=1e-4)


def test_temperature_keeps_the_order_and_what_is_0_or_1_stays_finite():
    generator = np.random.default_rng(0)
    probabilities = np.vstack([np.eye(3), generator.dirichlet(np.ones(3), size=50)])
    scaled = Scaler(2.0, (1.0, 1.0, 1.0))(probabilities)
    np.testing.assert_array_equal(np.argsort(scaled[3:], axis=1), np.argsort(probabilities[3:], axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert np.isfinite(scaled).all()
    assert np.isfinite(fit_scaler(probabilities, np.zeros(53, dtype=np.int64), factors=True).factors).all()


def test_no_fold_sees_its_own_labels(tables):
    """Changing the labels of a fold changes the scaling of the others and not its own."""
    predictions, labels = tables(90)
    folds = folds_of(labels)
    mine = (folds == 0).to_numpy()
    swapped = labels.copy()
    for target in TARGETS.values():
        columns = list(target.columns)
        swapped.loc[mine, columns] = np.roll(labels.loc[mine, columns].to_numpy(), 1, axis=1)
    before, _ = cross_scaled(predictions, labels, folds, "classes")
    after, _ = cross_scaled(predictions, swapped, folds, "classes")
    held_out = before["patient_id"].map(folds) == 0
    pd.testing.assert_frame_equal(before[held_out], after[held_out])
    assert not before[~held_out].equals(after[~held_out])


def test_cross_fitting_is_what_it_says(tables):
    """Literal: each fold scaled by hand with what the other folds give."""
    predictions, labels = tables(60)
    folds = folds_of(labels)
    found, scalers = cross_scaled(predictions, labels, folds, "temperature")
    paired = pair(predictions, labels)
    for fold in range(3):
        inside = (folds == fold).to_numpy()
        others = choose_rows(paired, np.flatnonzero(~inside))
        expected = fit_scaler(others.probabilities["liver"], others.truth["liver"])(
            paired.probabilities["liver"][inside]
        )
        chosen = found.set_index("patient_id").loc[folds.index[inside], list(TARGETS["liver"].columns)]
        np.testing.assert_allclose(chosen.to_numpy(), expected)
    assert scalers == fit_scalers(paired, "temperature")
    whole = scale_table(predictions, scalers)
    np.testing.assert_allclose(
        whole[list(TARGETS["liver"].columns)], scalers["liver"](paired.probabilities["liver"]), atol=1e-12
    )


def test_wrong_use_is_an_error(tables):
    predictions, labels = tables(10)
    with pytest.raises(UsageError, match="2 predicted patients are in no fold"):
        cross_scaled(predictions, labels, folds_of(labels).iloc[2:], "temperature")
    with pytest.raises(UsageError, match="all patients are in one fold"):
        cross_scaled(predictions, labels, folds_of(labels, 1), "temperature")
    with pytest.raises(UsageError, match="there are none"):
        fit_scaler(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))


@pytest.mark.realdata
def test_temperature_calibrates_a_real_model(real_data: Path):
    folder = real_data / "rsna"
    labels = read_label_table(folder / "train.csv")
    predictions = in_our_format(folder / "oof" / "lstm_efficientnetb0" / "oof_predictions.csv")
    public = pd.read_csv(folder / "folds.csv", dtype={"patient_id": str}).set_index("patient_id")
    scaled, _ = cross_scaled(predictions, labels, public.to_numpy().argmax(axis=1) + 0 * public["fold1"], "temperature")
    before, after = evaluate(predictions, labels), evaluate(scaled, labels)
    for name in TARGETS:
        assert after["targets"][name]["log_loss"] < before["targets"][name]["log_loss"]
    assert after["calibration"]["mean"]["ece"] < before["calibration"]["mean"]["ece"]
