"""A binary, an ordinal and a multiclass target of one's own go from a label table to scores by the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from voco2d.cli import main
from voco2d.inference.export import export_package
from voco2d.inference.onnx_package import read_package
from voco2d.inference.predictor import Predictor
from voco2d.io.readers import read_volume
from voco2d.models.checkpoint import read_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.target_block import parse_targets, read_targets

Run = Callable[..., tuple[int, str, str]]
PATIENTS = 12
BLOCK: dict[str, Any] = {
    "mass": {"kind": "binary", "classes": ["absent", "present"], "weights": [1, 2]},
    "fibrosis": {"kind": "ordinal", "classes": ["f0", "f1", "f2", "f3"]},
    "type": {"kind": "multiclass", "classes": ["native", "arterial", "venous"]},
}
COLUMNS = parse_targets(BLOCK).columns
CONFIG: dict[str, Any] = {
    "targets": BLOCK,
    "backbone": "test_efficientnet",
    "hidden": 8,
    "epochs": 2,
    "folds": 2,
    "device": "cpu",
    "readout": {"slices": 4, "crop": 28},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, their store, and labels: a column a target, some of them empty."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    body = (rows - 16) ** 2 + (columns - 16) ** 2 < 15**2
    (folder / "scans").mkdir()
    for number in range(PATIENTS):
        hu = np.where(body, 20 + 30 * (number % 4), -1000) + rng.integers(-10, 10, (16, 32, 32))
        file = folder / "scans" / f"p{number}.npy"
        np.save(file, hu.astype(np.int16))
        about = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"}
        file.with_suffix(".json").write_text(json.dumps(about | {"series_id": f"s{number}"}))
    numbers = np.arange(PATIENTS)
    table = pd.DataFrame({"patient_id": [f"p{number}" for number in numbers]})
    table["mass"] = [BLOCK["mass"]["classes"][number % 2] for number in numbers]
    table["fibrosis"] = [BLOCK["fibrosis"]["classes"][number % 4] if number != 5 else "" for number in numbers]
    table["type"] = [str(number % 3) if number > 1 else "" for number in numbers]
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    prepared = PreprocessArgs(size=(16, 32, 32), body_crop=False)
    assert prepare([folder / "scans"], folder / "store", PrepareArgs(preprocess=prepared, workers=1)).prepared == 12
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    words = ("--labels", folder / "labels.csv", "--init", "random", "--config", folder / "config.yaml")
    assert main([str(word) for word in ("finetune", folder / "store", *words, "--out", folder / "run")]) == 0
    return folder / "run"


def test_targets_are_in_everything_a_run_leaves(trained: Path) -> None:
    assert read_targets(trained) == parse_targets(BLOCK)
    _, metadata = read_weights(trained / "fold_0.safetensors")
    assert parse_targets(metadata["targets"]) == parse_targets(BLOCK)
    table = pd.read_csv(trained / "oof_predictions.csv")
    assert list(table.columns) == ["patient_id", "series_id", *COLUMNS]
    for name in BLOCK:
        np.testing.assert_allclose(table.filter(regex=f"^{name}_").sum(axis=1), 1)
    scores = json.loads((trained / "scores.json").read_text())
    assert set(scores["score"]) == {*BLOCK, "mean"}
    assert not any("rsna" in key for key in scores)
    assert all("val_score" in fold for fold in scores["folds"])
    page = (trained / "report.html").read_text()
    assert "quadratic kappa" in page
    assert "RSNA part" not in page
    assert "injuries" not in page


def test_missing_labels_stay_missing(trained: Path) -> None:
    labels = pd.read_csv(trained / "labels.csv").set_index("patient_id")
    assert labels.loc["p5", ["fibrosis_f0", "fibrosis_f3"]].isna().all()
    assert labels.loc["p5", "mass_present"] == 1
    shares = read_weights(trained / "fold_0.safetensors")[1]["class_shares"]
    for name in BLOCK:  # of those who have a label, so they sum to 1
        assert sum(share for column, share in shares.items() if column.startswith(f"{name}_")) == pytest.approx(1)


def test_raw_scans_are_graded_and_scored(trained: Path, folder: Path, run: Run, tmp_path: Path) -> None:
    words = ("--model", trained, "--gates", "off", "--device", "cpu", "--out", tmp_path / "predictions.csv")
    assert run("predict", folder / "scans", *words)[0] == 0
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert list(table.columns) == ["patient_id", "series_id", *COLUMNS, "status", "reason"]
    told = json.loads((tmp_path / "predictions.json").read_text())["studies"][0]
    assert list(told["probabilities"]) == list(COLUMNS)
    assert "any_injury" not in told
    words = ("--labels", folder / "labels.csv", "--json", tmp_path / "scores.json", "--bootstrap", 20)
    code, printed, _ = run("evaluate", tmp_path / "predictions.csv", *words, "--targets", trained)
    assert code == 0
    assert "rsna" not in printed.lower()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [scores["targets"][name]["n"] for name in BLOCK] == [12, 11, 10]
    assert np.sum(scores["targets"]["fibrosis"]["confusion"]) == 11
    assert {"quadratic_kappa", "grade_error"} <= set(scores["targets"]["fibrosis"])
    assert "quadratic_kappa" not in scores["targets"]["type"]
    assert scores["score"]["mean"] == pytest.approx(np.mean([scores["score"][name] for name in BLOCK]))
    assert "score" in scores["intervals"]
    assert "rsna" not in scores


def test_evaluate_without_the_block_tells_what_it_looks_for(trained: Path, folder: Path, run: Run) -> None:
    code, _, error = run("evaluate", trained / "oof_predictions.csv", "--labels", folder / "labels.csv")
    assert code == 1
    assert "lacks the column(s) bowel_healthy" in error


def test_an_onnx_package_grades_the_same(trained: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    volume = read_volume(folder / "scans" / "p0.npy")
    package = export_package(trained / "fold_0.safetensors", tmp_path / "package", [volume]).path
    assert read_package(package).targets == parse_targets(BLOCK)
    by_torch = Predictor(trained / "fold_0.safetensors", gates="off", calibration=None)(volume)
    by_onnx = Predictor(package, gates="off", calibration=None)(volume)
    assert by_onnx == pytest.approx(by_torch, abs=1e-4)
    assert "RSNA" not in (package / "README.md").read_text()


def test_an_ensemble_is_fitted_on_them(trained: Path, folder: Path, run: Run, tmp_path: Path) -> None:
    worse = pd.read_csv(trained / "oof_predictions.csv")
    for target in parse_targets(BLOCK).values():
        worse[list(target.columns)] = 1 / len(target.columns)
    worse.to_csv(tmp_path / "worse.csv", index=False)
    words = ("--labels", folder / "labels.csv", "--targets", trained, "--out", tmp_path / "blend")
    code, _, error = run("ensemble", trained / "oof_predictions.csv", tmp_path / "worse.csv", *words)
    assert (code, error) == (0, "")
    told = json.loads((tmp_path / "blend" / "weights.json").read_text())
    assert set(BLOCK) <= set(told["weights"])
    blended = pd.read_csv(tmp_path / "blend" / "oof_predictions.csv")
    assert [name for name in blended.columns if name in COLUMNS] == list(COLUMNS)
    assert "any_injury" not in blended.columns


@pytest.mark.slow
def test_a_study_compares_starts_by_them(folder: Path, run: Run, tmp_path: Path) -> None:
    tree = {
        "cohort": {"store": str(folder / "store"), "labels": str(folder / "labels.csv")},
        "split": {"test": 0.4, "validation": 0.0},
        "fractions": [1.0],
        "seeds": [0],
        "pretrain": {
            "backbone": "test_resnet",
            "init": "random",
            "device": "cpu",
            "steps": 1,
            "batch_size": 2,
            "schedule_steps": None,
            "method": {"crop": 12, "slices": 2},
        },
        "arms": {"random": {"start": "random"}, "voco2d": {"preset": "voco2d", "method": {"hidden": 16}}},
        "finetune": {key: CONFIG[key] for key in ("targets", "hidden", "device", "readout")} | {"epochs": 1},
        "analysis": {"resamples": 10, "permutations": 19},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    out = tmp_path / "study"
    code, _, error = run("study", "--config", tmp_path / "study.yaml", "--out", out)
    assert code == 0, error
    assert list(pd.read_csv(out / "predictions.csv.gz").columns) == ["arm", "fraction", "seed", "patient_id", *COLUMNS]
    results = pd.read_csv(out / "results.csv")
    assert "rsna" not in set(results["metric"])
    assert results["value"].notna().all()
    assert set(pd.read_csv(out / "significance.csv")["metric"]) <= set(results["metric"])
    assert "RSNA" not in (out / "report.html").read_text()
