import numpy as np
import pytest

from voco2d.errors import UsageError
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.measures import MEASURES, find_measure, measure_values
from voco2d.evaluation.pairing import pair
from voco2d.targets import RSNA_2023, TARGETS


def test_every_measure_is_the_score_that_evaluate_reports(tables):
    """`evaluate` takes rankings and decisions from scikit-learn and plain counts, not from the vectorised parts."""
    predictions, labels = tables(90)
    result = evaluate(predictions, labels)
    values = measure_values(pair(predictions, labels), MEASURES.values(), np.ones((90, 1)))
    expected = {name: result[name] for name in values if name in result and name != "rsna"}
    expected |= {"rsna": result["rsna"]["mean"], "ece": result["calibration"]["mean"]["ece"]}
    expected |= {"brier": result["calibration"]["mean"]["brier"]}
    for name, target in RSNA_2023.scored.items():
        expected[f"rsna.{name}"] = result["rsna"][name]
        scores = {**result["targets"][name], **result["calibration"][name]}
        expected |= {key: scores[key.split(".")[1]] for key in values if key.count(".") == 1 and key.startswith(name)}
        for grade in target.classes:
            start = f"{name}.{grade}."
            classes = scores["classes"][grade]
            expected |= {key: classes[key.removeprefix(start)] for key in values if key.startswith(start)}
    assert {key: float(value[0]) for key, value in values.items()} == pytest.approx(expected)


def test_direction_and_names():
    assert find_measure("rsna").lower_is_better
    assert find_measure("liver.ece").lower_is_better
    assert not find_measure("map").lower_is_better
    assert len(find_measure("map").parts) == sum(len(target.classes) - 1 for target in TARGETS.values())
    with pytest.raises(UsageError, match="'accuracy' is unknown; use one of rsna"):
        find_measure("accuracy")


def test_undefined_is_nan(tables):
    predictions, labels = tables(30)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    values = measure_values(pair(predictions, labels), [MEASURES["map"], MEASURES["rsna"]], np.ones((30, 1)))
    assert np.isnan(values["map"]).all()
    assert np.isfinite(values["rsna"]).all()
