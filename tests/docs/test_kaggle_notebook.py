"""The notebook for the competition answers for every patient, in the order and columns of the sample."""

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training.finetune import FinetuneArgs, finetune

NOTEBOOK = Path(__file__).parents[2] / "examples" / "kaggle_inference.ipynb"
ABSENT = "99999"


@pytest.fixture(scope="session")
def model(cohort: Path) -> Path:
    settings = {"folds": 2, "fold": 0, "epochs": 1, "hidden": 8, "device": "cpu", "backbone": "test_efficientnet"}
    args = FinetuneArgs(**settings, readout=ReadoutArgs(slices=4, crop=36))
    return finetune(cohort / "store", cohort / "RSNA" / "train.csv", "random", cohort / "kaggle", args)


@pytest.fixture(scope="session")
def competition(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a test set: four patients, one of whom can't be read; one without files; one nobody asks for."""
    root = tmp_path_factory.mktemp("competition")
    meta = pd.read_csv(cohort / "RSNA" / "train_series_meta.csv", dtype=str)
    counts = meta["patient_id"].value_counts(sort=False)
    twice = next(patient for patient, count in counts.items() if count == 2)
    patients = [twice, *[patient for patient in counts.index if patient != twice][:4]]
    for patient in patients:
        shutil.copytree(cohort / "RSNA" / "train_images" / patient, root / "test_images" / patient)
    asked = patients[:-1]  # the last one isn't in the sample, as most are in that of `voco2d phantom`
    for file in (root / "test_images" / asked[-1]).rglob("*.dcm"):
        file.write_bytes(b"no picture")
    meta.loc[len(meta)] = {"patient_id": ABSENT, "series_id": "1"}
    meta[meta["patient_id"].isin([ABSENT, *patients])].drop(columns="incomplete_organ").to_csv(
        root / "test_series_meta.csv", index=False
    )
    sample = pd.DataFrame({"patient_id": [ABSENT, *asked[::-1]], **dict.fromkeys(CLASS_COLUMNS, 0.5)})
    sample.to_csv(root / "sample_submission.csv", index=False)
    return root


def run(root: Path, model: Path, out: Path, **parameters: object) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """Run the cells in this process, with other paths; return the submission, the names, and what was printed."""
    names: dict[str, Any] = {}
    given = {"COMPETITION": root, "MODEL": model, "OUT": out, "DEVICE": "cpu", **parameters}
    said = io.StringIO()
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            with contextlib.redirect_stdout(said):
                exec(compile(cell.source, NOTEBOOK.name, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(given) <= set(names)
                names |= given
    return pd.read_csv(out / "submission.csv", dtype={"patient_id": str}), names, said.getvalue()


def test_everyone_gets_a_row_and_who_cannot_be_graded_the_prior(competition: Path, model: Path, tmp_path: Path) -> None:
    sample = pd.read_csv(competition / "sample_submission.csv", dtype={"patient_id": str})
    table, names, said = run(competition, model, tmp_path, GATES="flag")
    assert list(table.columns) == list(sample.columns)
    assert list(table["patient_id"]) == list(sample["patient_id"])
    for target in TARGETS.values():
        np.testing.assert_allclose(table[list(target.columns)].sum(axis=1), 1, atol=1e-5)
    prior = np.array([names["prior"][name] for name in CLASS_COLUMNS])
    is_prior = np.isclose(table[list(CLASS_COLUMNS)].to_numpy(), prior).all(axis=1)
    assert is_prior.tolist() == [True, True, False, False, False]  # of whom there is nothing, and who can't be read
    assert "5 patients, 2 of them with the prior; 0 series not reached in time" in said
    assert "prior for 1: none of the series was read" in said
    meta = pd.read_csv(competition / "test_series_meta.csv", dtype=str)
    of_them = meta["patient_id"].isin(sample["patient_id"])
    assert of_them.sum() < len(meta)
    assert f"1 of their {of_them.sum()} series not found or not reached" in said  # that of whom there is nothing
    twice = names["results"][sample["patient_id"].iloc[-1]]
    assert len(twice) == 2
    highest = np.stack([entry.folds[0] for entry in twice]).max(axis=0)
    np.testing.assert_allclose(table.iloc[-1, 1:3].astype(float), highest[:2] / highest[:2].sum(), atol=1e-6)


def test_the_prior_is_the_weighted_share_of_the_training_patients(
    competition: Path, model: Path, tmp_path: Path
) -> None:
    _, names, said = run(competition, model, tmp_path, TIME_LIMIT_S=0)
    asked = [source for source in names["sources"] if source.patient_id in names["wanted"]]
    assert len(asked) < len(names["sources"])
    assert f"5 patients, 5 of them with the prior; {len(asked)} series not reached in time" in said
    shares, prior = names["predictor"].models.class_shares, names["prior"]
    assert prior["bowel_injury"] == pytest.approx(
        2 * shares["bowel_injury"] / (shares["bowel_healthy"] + 2 * shares["bowel_injury"]), abs=2e-3
    )


def test_what_a_gate_refuses_gets_the_prior_and_the_reason_is_told(
    competition: Path, model: Path, tmp_path: Path
) -> None:
    _, _, said = run(competition, model, tmp_path)  # phantoms this small are too few slices
    assert "5 of them with the prior" in said
    assert "slices" in said.partition("prior for")[2]
