import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import ReadError
from voco2d.evaluation.scaler_file import read_scalers
from voco2d.inference.predictor import Predictor
from voco2d.models.checkpoint import backbone_state, read_weights
from voco2d.models.classifier import load_graded
from voco2d.models.feature_distance import PREFIX
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training.finetune import FinetuneArgs, finetune

PATIENTS = 28
ARGS = FinetuneArgs(
    backbone="test_efficientnet",
    hidden=8,
    epochs=1,
    batch_size=4,
    folds=2,
    device="cpu",
    readout=ReadoutArgs(slices=4, crop=28),
)


def write_volume(file: Path, patient: str, seed: int, is_usual: bool = True) -> Path:
    """A disc of soft tissue; an unusual one is a grid of metal."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    body = (rows - 16) ** 2 + (columns - 16) ** 2 < 15**2
    inside = 20 if is_usual else np.where((rows // 2 + columns // 2) % 2, 2000, -400)
    hu = np.where(body, inside, -1000) + rng.integers(-10, 10, (16, 32, 32))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, hu.astype(np.int16))
    about = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": patient, "series_id": patient}
    file.with_suffix(".json").write_text(json.dumps(about))
    return file


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    for number in range(PATIENTS):
        write_volume(folder / "scans" / f"{number:04d}.npy", f"{number:04d}", number)
        true = {target.columns[(len(target.classes) - 1) * (number % 2)]: 1 for target in TARGETS.values()}
        rows.append({"patient_id": f"{number:04d}", **dict.fromkeys(CLASS_COLUMNS, 0), **true})
    preprocess = PreprocessArgs(size=(16, 32, 32), body_crop=False)
    prepare([folder / "scans"], folder / "store", PrepareArgs(preprocess=preprocess, workers=1))
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    return folder / "store", folder / "train.csv"


@pytest.fixture(scope="module")
def run(cohort: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune(*cohort, "random", tmp_path_factory.mktemp("runs") / "run", ARGS)


def test_each_fold_keeps_its_feature_distance_as_tensors(run: Path) -> None:
    for fold in range(2):
        path = run / f"fold_{fold}.safetensors"
        classifier, metadata, distance = load_graded(path)
        assert distance is not None
        assert metadata["fold"] == fold
        assert len(distance.held_out) == PATIENTS // 2
        assert distance.held_out.max() < distance.threshold
        assert set(read_weights(path)[0]) - set(classifier.state_dict()) == set(distance.arrays())
        state, _ = backbone_state(path)
        assert not [name for name in state if name.startswith(PREFIX)]


def test_a_scan_unlike_the_training_is_far_and_one_like_it_is_not(run: Path, tmp_path: Path) -> None:
    predictor = Predictor(run, gates="flag")
    usual = predictor.predict(write_volume(tmp_path / "usual.npy", "usual", 1000)).series[0]
    unusual = predictor.predict(write_volume(tmp_path / "unusual.npy", "unusual", 1000, is_usual=False)).series[0]
    assert len(usual.distances) == len(unusual.distances) == 2
    assert max(usual.distances) < 1 < min(unusual.distances)
    assert [f.gate for f in unusual.findings if f.gate == "far_from_training" and f.refuses]
    assert not [f.gate for f in usual.findings if f.gate == "far_from_training"]
    with pytest.raises(ReadError, match="not assessed"):
        Predictor(run)(tmp_path / "unusual.npy")


def test_the_calibration_is_stored_and_used(run: Path, tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "scan.npy", "scan", 1000)
    stored = json.loads((run / "calibration.json").read_text())
    assert (stored["patients"], stored["fitted"]) == (PATIENTS, list(TARGETS))
    scalers = read_scalers(run / "calibration.json")
    calibrated = Predictor(run, gates="off").predict(scan)
    plain = Predictor(run, gates="off", calibration=None).predict(scan)
    assert calibrated.to_tree()["calibrated"]
    assert not plain.to_tree()["calibrated"]
    assert plain.probabilities is not None
    assert calibrated.probabilities is not None
    for name, target in TARGETS.items():
        columns = list(target.columns)
        expected = scalers[name](np.array([[plain.probabilities[column] for column in columns]]))[0]
        np.testing.assert_allclose([calibrated.probabilities[column] for column in columns], expected, rtol=1e-9)


def test_too_few_patients_leave_nothing(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    labels = pd.read_csv(cohort[1], dtype={"patient_id": str}).head(8)
    labels.to_csv(tmp_path / "few.csv", index=False)
    args = replace(ARGS, run_folds=1)
    run = finetune(cohort[0], tmp_path / "few.csv", "random", tmp_path / "run", args)
    assert load_graded(run / "fold_0.safetensors")[2] is None
    assert not (run / "calibration.json").exists()
    (finding,) = (
        found
        for found in Predictor(run, gates="flag").predict(write_volume(tmp_path / "a.npy", "a", 1)).series[0].findings
        if found.gate == "far_from_training"
    )
    assert not finding.refuses
    assert "nothing was fitted" in finding.text
