from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.data.cohort import Cohort
from voco2d.models.checkpoint import save_weights
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training.out_of_fold import (
    patient_scores,
    prediction_table,
    read_finished,
    weights_path,
    write_predictions,
    write_scores,
)
from voco2d.training.run_dir import RunDir

FOLDS = {"007": 0, "1": 1}


@pytest.fixture
def cohort() -> Cohort:
    healthy = {column: int(column.endswith("healthy")) for column in CLASS_COLUMNS}
    labels = pd.DataFrame([{"patient_id": patient, **healthy} for patient in FOLDS])
    series = pd.DataFrame({"position": [4, 2, 0], "patient_id": ["1", "007", "007"], "series_id": ["9", "008", ""]})
    return Cohort(series, labels, unlabelled_series=0, unknown_patients=0)


def probabilities(rows: int) -> np.ndarray:
    columns = [
        np.random.default_rng(grade).dirichlet(np.ones(len(target.classes)), rows)
        for grade, target in enumerate(TARGETS.values())
    ]
    return np.concatenate(columns, axis=1)


def test_finished_folds_are_read_back_to_the_last_digit(cohort: Cohort, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert read_finished(run, FOLDS) == {}
    finished = {
        0: prediction_table(cohort, np.array([1, 2]), probabilities(2)),
        1: prediction_table(cohort, np.array([0]), probabilities(1)),
    }
    write_predictions(run, finished)
    save_weights(weights_path(tmp_path, 0), {}, {})
    back = read_finished(run, FOLDS)
    assert list(back) == [0]  # fold 1 has no weights, so it must be trained again
    pd.testing.assert_frame_equal(back[0], finished[0], check_exact=True, check_dtype=False)


def test_a_patient_counts_once_with_the_highest_probability_of_its_series(cohort: Cohort) -> None:
    values = np.tile([0.9, 0.1, 0.9, 0.1, 0.8, 0.1, 0.1, 0.8, 0.1, 0.1, 0.8, 0.1, 0.1], (2, 1))
    values[1, :2] = [0.5, 0.5]
    scores = patient_scores(prediction_table(cohort, np.array([1, 2]), values), cohort.labels)
    assert scores["bowel"] == pytest.approx(-np.log(0.9 / (0.9 + 0.5)))


def test_scores_hold_parts_organs_and_folds(cohort: Cohort, tmp_path: Path) -> None:
    finished = {0: prediction_table(cohort, np.array([1, 2]), probabilities(2))}
    save_weights(weights_path(tmp_path, 0), {}, {"best_epoch": 3, "val_rsna": 0.5})
    scores = write_scores(RunDir(tmp_path), finished, cohort.labels, {"init": "random"})
    assert scores["folds"] == [{"fold": 0, "best_epoch": 3, "val_rsna": 0.5}]
    assert (scores["patients"], scores["series"], scores["init"]) == (1, 2, "random")
    organs = [scores["rsna"][organ] for organ in ("kidney", "liver", "spleen")]
    assert scores["rsna_organs"] == pytest.approx(np.mean(organs))
    assert (tmp_path / "scores.json").is_file()
