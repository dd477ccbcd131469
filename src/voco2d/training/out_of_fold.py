"""The tables and scores of a fine-tuning run: folds, labels, out-of-fold predictions."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from voco2d.data.cohort import Cohort
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.rsna_score import rsna_organs, score_name, score_parts
from voco2d.models.checkpoint import read_weights
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.training.run_dir import RunDir, write_text

PREDICTIONS_NAME = "oof_predictions.csv"
TEST_NAME = "predictions_test.csv"
SCORES_NAME = "scores.json"

_log = logging.getLogger(__name__)


def weights_path(run: Path, fold: int) -> Path:
    """Name the file of a fold's best weights."""
    return run / f"fold_{fold}.safetensors"


def prediction_table(
    cohort: Cohort, rows: Int64[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> pd.DataFrame:
    """Lay out probabilities as a prediction table, one row a series.

    Args:
        cohort: Gives the ids.
        rows: Rows of `Cohort.series`.
        probabilities: In the order of `TargetSet.columns` of the cohort's targets.
    """
    ids = cohort.series.loc[rows, ["patient_id", "series_id"]].reset_index(drop=True)
    return pd.concat([ids, pd.DataFrame(probabilities, columns=list(cohort.targets.columns))], axis=1)


def patient_scores(predictions: pd.DataFrame, labels: pd.DataFrame, targets: TargetSet = RSNA_2023) -> dict[str, float]:
    """Compute the score and its parts, a patient at a time: the maximum over series, renormalised."""
    return score_parts(pair(predictions, labels, "max", targets))


def known_mean(parts: Mapping[str, float]) -> float:
    """Average the parts of a score that are defined: a fold may lack every label of a target."""
    known = [value for name, value in parts.items() if name != "mean" and not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def validation_key(targets: TargetSet) -> str:
    """Name the validation score in logs and weights: `val_rsna`, or `val_score` for other targets than RSNA's."""
    return f"val_{score_name(targets)}"


def read_finished(run: RunDir, held_out: Mapping[str, int], targets: TargetSet = RSNA_2023) -> dict[int, pd.DataFrame]:
    """Return the out-of-fold predictions of the folds that an earlier part of the run has finished.

    Args:
        run: The run.
        held_out: Patient → the fold that validates on them.
        targets: What is graded.
    """
    path = run.path / PREDICTIONS_NAME
    if not held_out and weights_path(run.path, 0).is_file():  # written once, by the last epoch
        return {0: pd.DataFrame(columns=["patient_id", "series_id", *targets.columns])}
    if not path.is_file():
        return {}
    # as text first: pandas' own parser may miss the last digit of a float
    table = pd.read_csv(path, dtype=str, keep_default_na=False).astype(dict.fromkeys(targets.columns, float))
    numbers = table["patient_id"].map(dict(held_out))
    return {
        int(number): rows.reset_index(drop=True)
        for number, rows in table.groupby(numbers)
        if weights_path(run.path, int(number)).is_file()
    }


def write_predictions(run: RunDir, finished: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Write the out-of-fold table of the folds finished so far, fold by fold, and return it."""
    table = pd.concat([finished[fold] for fold in sorted(finished)], ignore_index=True)
    write_text(run.path / PREDICTIONS_NAME, table.to_csv(index=False))
    return table


def describe_tables(run: RunDir, about: dict[str, Any]) -> None:
    """Write beside each table of predictions, as `<its name>.json`, how it came about.

    Args:
        run: The run.
        about: How the backbones started, and whether they have seen who is graded.
    """
    for name in (PREDICTIONS_NAME, TEST_NAME):
        if (run.path / name).is_file():
            text = json.dumps({"table": name, **about}, indent=2, allow_nan=False) + "\n"
            write_text((run.path / name).with_suffix(".json"), text)


def write_scores(
    run: RunDir,
    finished: dict[int, pd.DataFrame],
    labels: pd.DataFrame,
    about: dict[str, Any],
    targets: TargetSet = RSNA_2023,
) -> dict[str, Any]:
    """Score the out-of-fold table and each fold, and write `scores.json`.

    Args:
        run: The run.
        finished: Fold → its out-of-fold predictions.
        labels: One row a patient.
        about: Further entries, such as how the backbones started.
        targets: What is graded.
    """
    table = write_predictions(run, finished)
    parts = patient_scores(table, labels, targets) if len(table) else None
    name = score_name(targets)
    scores = {
        **about,
        "patients": int(table["patient_id"].nunique()),
        "series": len(table),
        name: None if parts is None else {key: None if np.isnan(value) else value for key, value in parts.items()},
        **({"rsna_organs": None if parts is None else rsna_organs(parts)} if targets.is_rsna else {}),
        "folds": [_fold_summary(run.path, fold, validation_key(targets)) for fold in sorted(finished)],
    }
    write_text(run.path / SCORES_NAME, json.dumps(scores, indent=2, allow_nan=False) + "\n")
    if parts is not None:
        title = "RSNA score" if targets.is_rsna else "score"
        _log.info("out-of-fold %s %.4f on %d patients", title, parts["mean"], scores["patients"])
    return scores


def _fold_summary(run: Path, fold: int, key: str) -> dict[str, Any]:
    _, metadata = read_weights(weights_path(run, fold))
    return {"fold": fold, "best_epoch": metadata["best_epoch"], key: _nullable(metadata.get(key))}


def _nullable(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value
