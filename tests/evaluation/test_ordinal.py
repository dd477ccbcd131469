import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from voco2d.errors import LabelError
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.measures import find_measure, measure_values
from voco2d.evaluation.ordinal import confusion, ordinal_values
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.tables import check_labels
from voco2d.target_block import parse_targets

TARGETS = parse_targets(
    {"grade": {"kind": "ordinal", "classes": ["g0", "g1", "g2"]}, "seen": {"kind": "binary", "classes": ["no", "yes"]}}
)


def test_kappa_and_error_agree_with_sklearn_also_for_rows_that_count_twice() -> None:
    rng = np.random.default_rng(0)
    truth, called = rng.integers(4, size=80), rng.integers(4, size=80)
    times = rng.integers(0, 3, size=(80, 1)).astype(float)
    values = ordinal_values(truth, called, 4, times)
    many, few = np.repeat(truth, times[:, 0].astype(int)), np.repeat(called, times[:, 0].astype(int))
    assert values["quadratic_kappa"] == pytest.approx(cohen_kappa_score(many, few, weights="quadratic"))
    assert values["grade_error"] == pytest.approx(np.abs(many - few).mean())
    np.testing.assert_array_equal(confusion(truth, called, 4), confusion_matrix(truth, called))


def test_kappa_of_a_single_class_is_undefined() -> None:
    values = ordinal_values(np.zeros(3, int), np.zeros(3, int), 3, np.ones((3, 1)))
    assert np.isnan(values["quadratic_kappa"][0])
    assert values["grade_error"][0] == 0
    assert ordinal_values(np.array([2]), np.array([0]), 3, np.ones((1, 1)))["grade_error"][0] == 2


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    labels = pd.DataFrame({"patient_id": [f"p{n}" for n in range(40)], "grade": ["g0", "g1", "g2", "g1"] * 10})
    labels["seen"] = ["yes", "no"] * 20
    labels.loc[:9, "seen"] = ""
    predictions = pd.DataFrame(rng.random((40, 5)), columns=list(TARGETS.columns))
    return predictions.assign(patient_id=labels["patient_id"]), labels


def test_a_missing_label_leaves_a_row_out_of_that_target_alone() -> None:
    predictions, labels = tables()
    scores = evaluate(predictions, labels, bootstrap=5, targets=TARGETS)
    assert (scores["targets"]["grade"]["n"], scores["targets"]["seen"]["n"]) == (40, 10 + 20)
    alone = evaluate(predictions[10:], labels[10:], targets=TARGETS)
    assert alone["targets"]["seen"]["log_loss"] == scores["targets"]["seen"]["log_loss"]
    assert alone["score"]["seen"] == scores["score"]["seen"]
    assert alone["score"]["grade"] != scores["score"]["grade"]
    assert any("labels are missing" in warning and "seen of 10" in warning for warning in scores["warnings"])


def test_measures_are_the_scores_of_the_tree() -> None:
    predictions, labels = tables()
    paired = pair(predictions, labels, targets=TARGETS)
    scores = evaluate(predictions, labels, targets=TARGETS)
    names = {"score": scores["score"]["mean"], "map": scores["map"]}
    names |= {f"grade.{key}": scores["targets"]["grade"][key] for key in ("quadratic_kappa", "grade_error", "accuracy")}
    values = measure_values(paired, [find_measure(name, TARGETS) for name in names], np.ones((40, 1)))
    assert {name: float(value[0]) for name, value in values.items()} == pytest.approx(names)
    assert find_measure("grade.grade_error", TARGETS).lower_is_better
    assert not find_measure("grade.quadratic_kappa", TARGETS).lower_is_better


def test_a_target_without_any_label_is_undefined_and_stops_nothing() -> None:
    predictions, labels = tables()
    scores = evaluate(predictions, labels.assign(seen=""), bootstrap=3, targets=TARGETS)
    assert scores["targets"]["seen"]["log_loss"] is scores["score"]["seen"] is scores["score"]["mean"] is None
    assert scores["score"]["grade"] > 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["g2", "g0", ""], [2, 0, -1]),
        ([2, 0, np.nan], [2, 0, -1]),
        (["2", "0", None], [2, 0, -1]),
    ],
)
def test_labels_may_be_names_or_numbers(column: list[object], expected: list[int]) -> None:
    labels = pd.DataFrame({"patient_id": ["a", "b", "c"], "grade": column, "seen": ["no", "no", "yes"]})
    values = check_labels(labels, targets=TARGETS)[["grade_g0", "grade_g1", "grade_g2"]].to_numpy()
    assert np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1)).tolist() == expected


def test_an_unknown_class_is_told_by_its_row() -> None:
    labels = pd.DataFrame({"patient_id": ["a", "b"], "grade": ["g0", "g7"], "seen": ["no", "no"]})
    with pytest.raises(LabelError, match=r"row 2 has no class of grade; use g0, g1, g2"):
        check_labels(labels, targets=TARGETS)
