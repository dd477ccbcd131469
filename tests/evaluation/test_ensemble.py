from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.ensemble import fit_ensemble, fit_weights, mixture_weights
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.tables import read_label_table
from voco2d.targets import CLASS_COLUMNS, TARGETS

from .test_comparison import noisy
from .test_evaluate import in_our_format


def loss(weights: np.ndarray, given: np.ndarray, row_weight: np.ndarray) -> float:
    return float(row_weight @ -np.log(weights @ given) / row_weight.sum())


def test_two_models_agree_with_a_fine_grid():
    generator = np.random.default_rng(0)
    for _ in range(5):
        given, row_weight = generator.uniform(0.01, 1, size=(2, 80)), generator.choice([1.0, 2.0, 6.0], size=80)
        grid = np.linspace(0, 1, 100_001)
        losses = -(np.log(grid[:, None] * given[0] + (1 - grid[:, None]) * given[1]) @ row_weight)
        assert mixture_weights(given, row_weight)[0] == pytest.approx(grid[losses.argmin()], abs=1e-3)


def test_several_models_agree_with_expectation_maximisation():
    """Dempster, Laird and Rubin's iteration for mixture proportions, literal, until nothing moves."""
    generator = np.random.default_rng(1)
    given, row_weight = generator.beta(2, 2, size=(4, 200)), generator.choice([1.0, 2.0, 4.0], size=200)
    given[3] *= 0.3  # a model that is worse everywhere gets nothing
    weights = np.full(4, 0.25)
    for _ in range(20_000):
        share = weights[:, None] * given / (weights @ given)
        weights = share @ row_weight / row_weight.sum()
    found = mixture_weights(given, row_weight)
    np.testing.assert_allclose(found, weights, atol=2e-3)
    assert loss(found, given, row_weight) <= loss(weights, given, row_weight) + 1e-9
    assert found[3] == 0
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


def test_certain_and_wrong_models_stay_finite():
    found = mixture_weights(np.array([[0.0, 0.0, 0.0], [0.9, 0.8, 0.7]]), np.ones(3))
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)
    np.testing.assert_allclose(mixture_weights(np.array([[0.3, 0.6]]), np.ones(2)), [1])


def test_no_fold_sees_its_own_labels_and_the_kept_weights_see_all(tables):
    predictions, labels = tables(90)
    models = [noisy(predictions, 1), noisy(predictions, 2)]
    folds = pd.Series(np.arange(90) % 3, index=labels["patient_id"])
    ensemble, out_of_fold = fit_ensemble(models, labels, folds)
    columns = list(TARGETS["spleen"].columns)
    pairs = [pair(model, labels) for model in models]
    for fold in range(3):
        inside = (folds == fold).to_numpy()
        fitted_on = [pair(model[~inside], labels) for model in models]
        weights = fit_weights(fitted_on)["spleen"]
        expected = sum(w * p.probabilities["spleen"][inside] for w, p in zip(weights, pairs, strict=True))
        chosen = out_of_fold.set_index("patient_id").loc[folds.index[inside], columns]
        np.testing.assert_allclose(chosen.to_numpy(), expected)
    assert ensemble.weights == fit_weights(pairs)


def test_a_blend_scores_no_worse_than_its_models_on_what_it_was_fitted_on(tables):
    predictions, labels = tables(150)
    models = [noisy(predictions, seed, 1.0) for seed in range(3)]
    ensemble, out_of_fold = fit_ensemble(models, labels, scaling="classes")
    blended = ensemble(models)
    assert list(blended.columns) == ["patient_id", *CLASS_COLUMNS]
    for name in TARGETS:
        alone = min(evaluate(model, labels)["rsna"][name] for model in models)
        assert evaluate(blended, labels)["rsna"][name] <= alone + 1e-9
    assert evaluate(out_of_fold, labels)["rsna"]["mean"] < min(evaluate(m, labels)["rsna"]["mean"] for m in models)


def test_several_series_a_patient_are_aggregated_first(tables):
    predictions, labels = tables(60)
    twice = pd.concat([noisy(predictions, 1).assign(series_id="1"), noisy(predictions, 2).assign(series_id="2")])
    ensemble, out_of_fold = fit_ensemble([twice], labels)
    assert set(ensemble.weights.values()) == {(1.0,)}
    expected = pair(twice, labels, "max").probabilities["kidney"]
    columns = list(TARGETS["kidney"].columns)
    patients = out_of_fold.set_index("patient_id").loc[predictions["patient_id"], columns]
    np.testing.assert_allclose(patients.to_numpy(), expected)
    np.testing.assert_allclose(ensemble([twice])[columns].to_numpy(), expected)


def test_wrong_use_is_an_error(tables):
    predictions, labels = tables(40)
    ensemble, _ = fit_ensemble([predictions, noisy(predictions, 1)], labels)
    with pytest.raises(UsageError, match="1 tables for an ensemble of 2 models"):
        ensemble([predictions])
    with pytest.raises(LabelError, match="different patients"):
        ensemble([predictions, predictions.iloc[1:]])
    with pytest.raises(LabelError, match="different patients"):
        fit_ensemble([predictions, predictions.iloc[1:]], labels)
    with pytest.raises(UsageError, match="one patient is too few"):
        fit_ensemble([predictions.iloc[:1]], labels)


@pytest.mark.realdata
def test_two_real_models_together_are_better_out_of_fold(real_data: Path):
    """The published folds; each fold blended with weights from the other four."""
    folder = real_data / "rsna"
    labels = read_label_table(folder / "train.csv")
    paths = [folder / "oof" / model / "oof_predictions.csv" for model in ("lstm_efficientnetb0", "mil_efficientnetb0")]
    models = [in_our_format(path) for path in paths]
    public = pd.read_csv(folder / "folds.csv", dtype={"patient_id": str}).set_index("patient_id")
    folds = pd.Series(public.to_numpy().argmax(axis=1), index=public.index)
    ensemble, out_of_fold = fit_ensemble(models, labels, folds)
    alone = [evaluate(model, labels)["rsna"]["mean"] for model in models]
    assert alone == pytest.approx([0.4158, 0.4138], abs=1e-4)
    assert evaluate(out_of_fold, labels)["rsna"]["mean"] == pytest.approx(0.4009, abs=1e-3)
    assert all(min(weights) > 0.2 for weights in ensemble.weights.values())
