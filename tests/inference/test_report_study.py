"""What `study --tables` refuses before it computes anything, and how its figures are laid out."""

import base64
import json
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.inference.report_study import read_study_predictions, write_study_report
from voco2d.inference.report_study_figures import label_efficiency
from voco2d.targets import RSNA_2023

ABOUT = {
    "configuration": {"analysis": {}, "split": {"folds": 1}, "cohort": {"store": None}},
    "patients": {},
    "command": "voco2d study",
    "compute": [],
    "class_shares": {},
}


def predictions(arm: str, seed: int, patients: range = range(4)) -> pd.DataFrame:
    keys = pd.DataFrame({"arm": arm, "fraction": 1.0, "seed": seed, "patient_id": [str(number) for number in patients]})
    return keys.assign(**dict.fromkeys(RSNA_2023.columns, 0.5))


def test_the_legend_lies_outside_of_the_axes() -> None:
    rows = [
        {"arm": arm, "fraction": fraction, "seed": seed, "metric": "map", "value": 0.4}
        for arm in ("random", "voco2d")
        for fraction in (0.25, 1.0)
        for seed in ("0", "mean")
    ]
    figure = label_efficiency(pd.DataFrame(rows), "map")
    root = ElementTree.fromstring(base64.b64decode(figure.source.partition("base64,")[2]))
    (legend,) = (group for group in root.iter() if group.get("id") == "legend_1")
    (axes,) = (group for group in root.iter() if group.get("id") == "axes_1")
    assert legend not in list(axes.iter())  # within them it lay over the line of an arm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the tables of a study of two arms."""
    pd.concat([predictions("voco2d", 0), predictions("random", 0)]).to_csv(tmp_path / "predictions.csv.gz", index=False)
    healthy = {column: int(column.endswith("healthy")) for column in RSNA_2023.columns}
    predictions("x", 0)[["patient_id"]].assign(**healthy).to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "study.json").write_text(json.dumps(ABOUT))
    return tmp_path


def test_the_same_models_in_two_files_are_refused(folder: Path) -> None:
    predictions("voco2d", 1).to_csv(folder / "predictions_seed1.csv.gz", index=False)
    assert len(read_study_predictions(folder)) == 12
    predictions("random", 0, range(3, 6)).to_csv(folder / "predictions_stray.csv.gz", index=False)
    with pytest.raises(LabelError, match=r"predictions_stray.csv.gz: repeats .* arm random, fraction 1, seed 0; take"):
        read_study_predictions(folder)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("primary=nope", "analysis.primary=nope: no such arm; the study has voco2d, random"),
        ('claims=["voco2d@0.3 vs random@1"]', "voco2d@0.3 is no arm and fraction"),
        ('metrics=["map","map"]', "map comes twice"),
    ],
)
def test_words_that_name_nothing_are_refused(folder: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_study_report(folder, [word])
    assert not (folder / "results.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"configuration": ', "not JSON"),
        ("[]", "lacks configuration, patients"),
        (json.dumps({**ABOUT, "configuration": {"analysis": {}}}), "lacks configuration.split, configuration.cohort"),
    ],
)
def test_a_damaged_account_is_told(folder: Path, text: str, message: str) -> None:
    (folder / "study.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        write_study_report(folder)
