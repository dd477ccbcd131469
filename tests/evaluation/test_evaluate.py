import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.rsna_score import rsna_score
from voco2d.evaluation.tables import read_label_table
from voco2d.targets import ORGANS, TARGETS


def test_holds_what_the_design_names(tables):
    result = evaluate(*tables(60), bootstrap=20)
    assert {"rsna", "rsna_organs", "map", "precision", "recall", "map_organs9", "n_patients", "warnings"} <= set(result)
    assert list(result["rsna"]) == [*TARGETS, "any_injury", "mean"]
    for name, target in TARGETS.items():
        values = result["targets"][name]
        assert {"average_precision", "roc_auc", "precision", "recall", "specificity", "f1", "log_loss", "n"} <= set(
            values
        )
        assert values["n"] == sum(values["classes"][grade]["n"] for grade in target.classes) == 60
        for metric in ("average_precision", "roc_auc", "precision", "recall", "log_loss"):
            low, high = result["intervals"]["targets"][name][metric]
            assert low <= values[metric] <= high
        assert 0 <= result["calibration"][name]["ece"] <= 1
    assert result["intervals"]["rsna"]["mean"][0] < result["rsna"]["mean"] < result["intervals"]["rsna"]["mean"][1]
    assert result["rsna_organs"] == pytest.approx(sum(result["rsna"][organ] for organ in ORGANS) / 3)
    json.dumps(result, allow_nan=False)


def test_rsna_is_the_public_score(tables):
    predictions, labels = tables(30)
    assert evaluate(predictions, labels)["rsna"] == pytest.approx(rsna_score(predictions, labels))


def test_undefined_is_null_with_a_warning(tables):
    predictions, labels = tables(40)
    labels["kidney_low"] += labels["kidney_high"]
    labels["kidney_high"] = 0.0
    result = evaluate(predictions, labels, bootstrap=5)
    assert result["map"] is None
    assert result["intervals"]["map"] is None
    assert result["targets"]["kidney"]["roc_auc"] is None
    assert any("kidney_high never occurs" in warning for warning in result["warnings"])
    assert result["rsna"]["kidney"] > 0
    json.dumps(result, allow_nan=False)


def test_one_patient_is_scored(tables):
    result = evaluate(*tables(1), bootstrap=5)
    assert result["n_patients"] == 1
    assert result["rsna"]["mean"] > 0
    assert result["targets"]["bowel"]["roc_auc"] is None


def test_resamples_that_lack_a_class_are_told(tables):
    predictions, labels = tables(30)
    labels["bowel_healthy"], labels["bowel_injury"] = 1.0, 0.0
    labels.loc[0, ["bowel_healthy", "bowel_injury"]] = [0.0, 1.0]
    result = evaluate(predictions, labels, bootstrap=50)
    assert any("of 50 resamples" in warning for warning in result["warnings"])
    assert result["intervals"]["targets"]["bowel"]["roc_auc"] is not None


def test_knows_no_torch():
    code = "import sys; import voco2d.evaluation.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PUBLISHED = {"bowel": "bowel_injury", "extravasation": "extravasation_injury"}


def in_our_format(path: Path) -> pd.DataFrame:
    """Write one of the published out-of-fold tables as a prediction table."""
    theirs = pd.read_csv(path)
    columns = {"patient_id": theirs["patient_id"], "series_id": theirs["scan_id"]}
    for name, target in TARGETS.items():
        if name in PUBLISHED:
            injury = theirs[f"{name}_injury_prediction"]
            columns |= {f"{name}_healthy": 1 - injury, f"{name}_injury": injury}
        else:
            columns |= {column: theirs[f"{column}_prediction"] for column in target.columns}
    return pd.DataFrame(columns)


COUNTED = ("accuracy", "precision", "recall", "specificity", "f1")
MODELS = ("lstm_efficientnetb0", "mil_efficientnetb0")


@pytest.mark.realdata
@pytest.mark.parametrize("model", MODELS)
def test_reproduces_every_published_score(real_data: Path, model: str):
    """All 45 numbers a model: counts to the last digit, rankings to 12, losses to the float32 of its probabilities.

    For organs precision, recall and F1 are means over three classes. Their tables are not renormalised, and the three
    probabilities of an organ, written in 32 bits, miss 1 by up to 2e-7.
    """
    folder = real_data / "rsna" / "oof" / model
    published = pd.read_csv(folder / "oof_scores.csv", index_col="target")
    labels = read_label_table(real_data / "rsna" / "train.csv")
    result = evaluate(in_our_format(folder / "oof_predictions.csv"), labels, aggregate="none")
    assert (result["n_rows"], result["n_patients"]) == (4711, 3147)
    compared = 0
    for name in [*TARGETS, "any_injury"]:
        theirs, ours = published.loc[PUBLISHED.get(name, name)], result["targets"][name]
        ours = {**ours, "sample_weighted_log_loss": result["rsna"][name]}
        for metric, value in theirs.dropna().items():
            close = 1e-15 if metric in COUNTED else 1e-12 if "log_loss" not in metric else 2e-8
            assert ours[metric] == pytest.approx(value, rel=0, abs=close), (name, metric)
            compared += 1
    assert compared == 3 * 9 + 3 * 6


@pytest.mark.realdata
def test_published_mean_of_the_lstm(real_data: Path):
    labels = read_label_table(real_data / "rsna" / "train.csv")
    predictions = in_our_format(real_data / "rsna" / "oof" / "lstm_efficientnetb0" / "oof_predictions.csv")
    assert rsna_score(predictions, labels)["mean"] == pytest.approx(0.4284, abs=1e-4)
    assert evaluate(predictions, labels, aggregate="max")["rsna"]["mean"] < 0.4284
