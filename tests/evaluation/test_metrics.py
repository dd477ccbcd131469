from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from voco2d.evaluation.metrics import class_metrics, decide, decision_values, summary, target_metrics
from voco2d.evaluation.pairing import pair
from voco2d.targets import ORGANS, RSNA_2023, TARGETS


def test_each_class_agrees_with_sklearn(tables):
    paired = pair(*tables(120))
    values = class_metrics(paired)
    for name, target in RSNA_2023.scored.items():
        called = decide(paired.probabilities[name], RSNA_2023.scored[name])
        for index, grade in enumerate(target.classes):
            positive, chosen = paired.truth[name] == index, called == index
            expected = {
                "average_precision": sk.average_precision_score(positive, paired.probabilities[name][:, index]),
                "roc_auc": sk.roc_auc_score(positive, paired.probabilities[name][:, index]),
                "precision": sk.precision_score(positive, chosen),
                "recall": sk.recall_score(positive, chosen),
                "specificity": sk.recall_score(~positive, ~chosen),
                "f1": sk.f1_score(positive, chosen),
            }
            assert values[name][grade] == pytest.approx(expected)


def test_graded_targets_agree_with_sklearns_macro_and_binary_ones_with_their_injury(tables):
    paired = pair(*tables(120))
    values = class_metrics(paired)
    for name in ORGANS:
        called = decide(paired.probabilities[name], RSNA_2023.scored[name])
        kidney = target_metrics(values, RSNA_2023.scored[name])
        assert kidney["precision"] == pytest.approx(sk.precision_score(paired.truth[name], called, average="macro"))
        assert kidney["recall"] == pytest.approx(sk.recall_score(paired.truth[name], called, average="macro"))
    assert target_metrics(values, RSNA_2023["bowel"]) == values["bowel"]["injury"]


def test_means_are_over_eight_injuries_and_over_nine_organ_classes(tables):
    values = class_metrics(pair(*tables(120)))
    means = summary(values)
    injuries = [values[name][grade]["recall"] for name, target in TARGETS.items() for grade in target.classes[1:]]
    assert len(injuries) == 8
    assert means["recall"] == pytest.approx(np.mean(injuries))
    assert means["map_organs9"] == pytest.approx(
        np.mean([target_metrics(values, RSNA_2023.scored[name])["average_precision"] for name in ORGANS])
    )


def test_a_class_that_never_occurs_is_undefined_and_so_are_its_means(tables):
    predictions, labels = tables(40)
    labels["kidney_low"] += labels["kidney_high"]
    labels["kidney_high"] = 0.0
    values = class_metrics(pair(predictions, labels))
    high = values["kidney"]["high"]
    assert all(np.isnan(high[metric]) for metric in ("average_precision", "roc_auc", "precision", "recall", "f1"))
    assert 0 < high["specificity"] < 1
    assert np.isnan(target_metrics(values, RSNA_2023["kidney"])["recall"])
    assert np.isnan(summary(values)["map"])
    assert np.isfinite(target_metrics(values, RSNA_2023["liver"])["roc_auc"])


def test_one_class_only_leaves_rankings_undefined(tables):
    predictions, labels = tables(40)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    healthy = class_metrics(pair(predictions, labels))["bowel"]["healthy"]
    assert np.isnan(healthy["average_precision"])
    assert np.isnan(healthy["roc_auc"])
    assert np.isnan(healthy["specificity"])
    assert 0 < healthy["recall"] < 1


def test_a_class_that_is_never_called_has_precision_0():
    values = decision_values(hits=0, positive=3, called=0, negative=7)
    assert {key: float(value) for key, value in values.items()} == {
        "precision": 0.0,
        "recall": 0.0,
        "specificity": 1.0,
        "f1": 0.0,
    }


def test_one_row_of_each_kind_is_enough():
    values = decision_values(hits=1, positive=1, called=1, negative=1)
    assert {key: float(value) for key, value in values.items()} == dict.fromkeys(values, 1.0)


def test_decision_rule():
    np.testing.assert_array_equal(decide(np.array([[0.5, 0.5], [0.51, 0.49]]), TARGETS["bowel"]), [1, 0])
    graded = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7]])
    np.testing.assert_array_equal(decide(graded, TARGETS["kidney"]), [0, 1, 2])
    ordinal = replace(TARGETS["kidney"], kind="ordinal")  # the median: 0.6 lie beyond the first class
    np.testing.assert_array_equal(decide(graded, ordinal), [1, 1, 2])
    np.testing.assert_array_equal(decide(np.array([[0.5, 0.5, 0.0]]), ordinal), [1])  # one half is enough
