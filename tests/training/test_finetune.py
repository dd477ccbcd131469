import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from voco2d.data.augment import AugmentArgs
from voco2d.data.cohort import patient_digests
from voco2d.errors import CheckpointError, ConfigError, LabelError, NonFiniteLossError, UsageError, Voco2dError
from voco2d.inference.torch_runtime import load_models
from voco2d.losses.injury import InjuryLoss
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import read_weights, save_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.progress import Progress
from voco2d.store.build import PrepareArgs, prepare
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training import finetune as finetune_module
from voco2d.training.finetune import FinetuneArgs, finetune
from voco2d.training.optim import OptimArgs

PATIENTS = 10
ARGS = FinetuneArgs(
    backbone="test_efficientnet",
    hidden=8,
    epochs=2,
    batch_size=4,
    folds=2,
    device="cpu",
    readout=ReadoutArgs(slices=4, crop=28),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of discs of soft tissue, of which every other one has a bright blob and all targets injured."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    body = (rows - 16) ** 2 + (columns - 16) ** 2 < 15**2
    sidecar: dict[str, object] = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu"}
    (folder / "scans").mkdir()
    table: dict[str, list[object]] = {"patient_id": [], **{column: [] for column in CLASS_COLUMNS}}
    for number in range(PATIENTS):
        patient, injured = f"{number:04d}", number % 2 == 1
        hu = np.where(body, 20, -1000) + rng.integers(-10, 10, (16, 32, 32))
        if injured:
            hu[4:12, 8:18, 10:20] = 220
        for series in range(1 + (number == 3)):
            file = folder / "scans" / f"{patient}_{series}.npy"
            np.save(file, hu.astype(np.int16))
            ids = {"patient_id": patient, "series_id": f"{patient}{series}"}
            file.with_suffix(".json").write_text(json.dumps(sidecar | ids))
        table["patient_id"].append(patient)
        for target in TARGETS.values():
            true = len(target.classes) - 1 if injured else 0
            for grade, column in enumerate(target.columns):
                table[column].append(int(grade == true))
    preprocess = PreprocessArgs(size=(16, 32, 32), body_crop=False)
    summary = prepare([folder / "scans"], folder / "store", PrepareArgs(preprocess=preprocess, workers=1))
    assert summary.prepared == PATIENTS + 1
    pd.DataFrame(table).to_csv(folder / "train.csv", index=False)
    return folder / "store", folder / "train.csv"


@pytest.fixture(scope="module")
def finished(cohort: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune(*cohort, "random", tmp_path_factory.mktemp("runs") / "run", ARGS)


def checkpoint(folder: Path, **metadata: object) -> str:
    state = {f"student.{name}": tensor for name, tensor in build_backbone("test_efficientnet").state_dict().items()}
    told = {"kind": "pretrain", "backbone": "test_efficientnet", "in_chans": 1, **metadata}
    save_weights(folder / "weights_00000001.safetensors", state, told)
    return str(folder)


def read_table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / name, dtype={"patient_id": str, "series_id": str})


def read_scores(run: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((run / "scores.json").read_text())
    return scores


def read_metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_run_folder_holds_what_was_promised(finished: Path) -> None:
    predictions = read_table(finished, "oof_predictions.csv")
    assert list(predictions.columns) == ["patient_id", "series_id", *CLASS_COLUMNS]
    assert len(predictions) == PATIENTS + 1
    for target in TARGETS.values():
        np.testing.assert_allclose(predictions[list(target.columns)].sum(axis=1), 1)
    folds = read_table(finished, "folds.csv").set_index("patient_id")["fold"]
    assert (
        sorted(folds.index)
        == sorted(set(predictions["patient_id"]))
        == read_table(finished, "labels.csv")["patient_id"].tolist()
    )
    metrics = read_metrics(finished)
    assert [(line["fold"], line["epoch"]) for line in metrics] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert set(metrics[0]) == {"fold", "epoch", "train_loss", "val_loss", "val_rsna", "lr"}
    assert yaml.safe_load((finished / "config.yaml").read_text())["backbone"] == "test_efficientnet"
    assert not list(finished.glob("resume_*"))


def test_weights_are_those_of_the_best_epoch_and_describe_themselves(finished: Path) -> None:
    metrics = read_metrics(finished)
    scores = read_scores(finished)
    for fold in range(2):
        _, metadata = read_weights(finished / f"fold_{fold}.safetensors")
        of_fold = [line["val_rsna"] for line in metrics if line["fold"] == fold]
        assert metadata["val_rsna"] == min(of_fold)
        assert metadata["best_epoch"] == of_fold.index(min(of_fold)) + 1
        assert (metadata["kind"], metadata["fold"], metadata["init"]) == ("classifier", fold, "random")
        assert metadata["preprocess"]["size"] == [16, 32, 32]
        assert metadata["readout"]["slices"] == 4
        assert scores["folds"][fold] == {
            "fold": fold,
            "best_epoch": metadata["best_epoch"],
            "val_rsna": metadata["val_rsna"],
        }
    assert scores["transductive"] is False
    assert (scores["patients"], scores["series"]) == (PATIENTS, PATIENTS + 1)
    assert set(scores["rsna"]) == {*TARGETS, "any_injury", "mean"}


def test_same_seed_same_run_and_folds_do_not_depend_on_the_start(
    cohort: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    again = finetune(*cohort, "random", tmp_path / "again", ARGS)
    assert read_metrics(again) == read_metrics(finished)
    assert (again / "oof_predictions.csv").read_text() == (finished / "oof_predictions.csv").read_text()
    (tmp_path / "pretrained").mkdir()
    args = replace(ARGS, epochs=1, run_folds=1, backbone=None)
    other = finetune(*cohort, checkpoint(tmp_path / "pretrained"), tmp_path / "other", args)
    assert (other / "folds.csv").read_text() == (finished / "folds.csv").read_text()
    assert yaml.safe_load((other / "config.yaml").read_text())["backbone"] == "test_efficientnet"
    assert not (other / "fold_1.safetensors").exists()


class KilledError(Exception):
    """Stands for a killed process."""


def kill_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Make the next fine-tuning stop after so many steps."""

    class Stopping(Progress):
        taken = 0

        def advance(self, steps_done: int = 1, note: str = "") -> None:
            super().advance(steps_done, note)
            Stopping.taken += bool(note)
            if Stopping.taken == steps:
                raise KilledError

    patch.setattr(finetune_module, "Progress", Stopping)


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    cohort: tuple[Path, Path], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    with monkeypatch.context() as patch:
        kill_after(steps, patch)
        with pytest.raises(KilledError):
            finetune(*cohort, "random", tmp_path / "run", ARGS)
    run = finetune(*cohort, "random", tmp_path / "run", ARGS, resume=True)
    assert read_metrics(run) == read_metrics(finished)
    assert (run / "oof_predictions.csv").read_text() == (finished / "oof_predictions.csv").read_text()
    assert read_scores(run) == read_scores(finished)


def test_a_damaged_resume_state_says_what_to_do(
    cohort: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(3, patch)
        with pytest.raises(KilledError):
            finetune(*cohort, "random", tmp_path / "run", ARGS)
    (tmp_path / "run" / "resume_fold_0.pt").write_bytes(b"PK half of it")
    with pytest.raises(CheckpointError, match=r"resume_fold_0\.pt: damaged; delete it"):
        finetune(*cohort, "random", tmp_path / "run", ARGS, resume=True)


def test_bfloat16_runs(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    run = finetune(*cohort, "random", tmp_path / "run", replace(ARGS, epochs=1, run_folds=1, precision="bf16"))
    assert np.isfinite(read_scores(run)["rsna"]["mean"])


def test_resuming_a_finished_run_trains_nothing(
    cohort: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = replace(ARGS, epochs=1)
    run = finetune(*cohort, "random", tmp_path / "run", replace(args, run_folds=1))
    before = (run / "fold_0.safetensors").stat().st_mtime_ns
    finetune(*cohort, "random", run, args, resume=True)
    assert (run / "fold_0.safetensors").stat().st_mtime_ns == before
    assert len(read_table(run, "oof_predictions.csv")) == PATIENTS + 1
    monkeypatch.setattr(finetune_module, "FoldTraining", None)
    finetune(*cohort, "random", run, args, resume=True)


def test_resuming_with_other_settings_or_start_is_refused(
    cohort: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    before = (finished / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"optim\.lr was 0\.001, now 0\.5"):
        finetune(*cohort, "random", finished, replace(ARGS, optim=OptimArgs(lr=0.5, schedule="one_cycle")), resume=True)
    with pytest.raises(ConfigError, match="init was random"):
        finetune(*cohort, checkpoint(tmp_path), finished, ARGS, resume=True)
    with pytest.raises(UsageError, match="--resume"):
        finetune(*cohort, "random", finished, ARGS)
    assert (finished / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, None),
        ({"patients_seen": patient_digests(["x"])}, False),
        ({"patients_seen": patient_digests(["0001"])}, True),
    ],
)
def test_pretraining_on_validation_patients_is_told(
    cohort: tuple[Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    seen: Mapping[str, object],
    expected: bool | None,
) -> None:
    (tmp_path / "pretrained").mkdir()
    init = checkpoint(tmp_path / "pretrained", **seen)
    args = replace(ARGS, epochs=1)
    if expected:
        with pytest.raises(LabelError, match=r"1 patients that are validated on .*transductive=true"):
            finetune(*cohort, init, tmp_path / "run", args)
        args = replace(args, transductive=True)
    run = finetune(*cohort, init, tmp_path / "run", args)
    assert read_scores(run)["transductive"] is expected
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    words = {None: "doesn't say which patients", True: "transductive"}
    assert expected is False or any(words[expected] in message for message in told)


def test_a_start_from_a_store_prepared_otherwise_is_told(
    cohort: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init = checkpoint(tmp_path, preprocess={"size": [1, 2, 3]}, window_hu=[0.0, 80.0])
    with pytest.raises(Voco2dError, match=r"none\.csv"):  # told before the labels are read
        finetune(cohort[0], tmp_path / "none.csv", init, tmp_path / "run", ARGS)
    assert "prepared otherwise (preprocess: size [1, 2, 3], now [" in caplog.text
    assert "trained on a window of [0.0, 80.0] HU" in caplog.text


def test_a_separable_cohort_is_learnt(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    args = replace(
        ARGS,
        epochs=20,
        batch_size=2,
        dropout=0.0,
        augment=AugmentArgs(crop=0.0, contrast=0.0, brightness=0.0, noise=0.0),
        optim=OptimArgs(lr=1e-2, schedule="one_cycle"),
    )
    run = finetune(*cohort, "random", tmp_path / "run", args)
    predictions = read_table(run, "oof_predictions.csv")
    injured = predictions["patient_id"].astype(int) % 2 == 1
    for target in TARGETS.values():
        healthy = predictions[target.columns[0]]
        assert healthy[~injured].min() > healthy[injured].max()
    assert read_scores(run)["rsna"]["mean"] < 0.45


def test_a_loss_that_is_not_finite_stops_with_what_is_needed(
    cohort: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InjuryLoss, "forward", lambda _self, logits, *_: logits["bowel"].sum() * float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"fold 0, epoch 1, step 1: .*bowel .*precision=fp32"):
        finetune(*cohort, "random", tmp_path / "run", ARGS)


def test_bad_input_leaves_nothing_behind(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    store, labels = cohort
    table = pd.read_csv(labels, dtype={"patient_id": str})
    table.drop(columns="liver_low").to_csv(tmp_path / "narrow.csv", index=False)
    table.assign(patient_id=[f"x{number}" for number in range(PATIENTS)]).to_csv(
        tmp_path / "strangers.csv", index=False
    )
    out = tmp_path / "run"
    with pytest.raises(LabelError, match="liver_low"):
        finetune(store, tmp_path / "narrow.csv", "random", out, ARGS)
    with pytest.raises(LabelError, match="none of the 10 labelled patients"):
        finetune(store, tmp_path / "strangers.csv", "random", out, ARGS)
    with pytest.raises(CheckpointError, match=r"test_efficientnet.*test_resnet"):
        finetune(store, labels, checkpoint(tmp_path), out, replace(ARGS, backbone="test_resnet"))
    with pytest.raises(ConfigError, match=r"readout\.slices=48: the prepared volumes have 16"):
        finetune(store, labels, "random", out, replace(ARGS, readout=ReadoutArgs()))
    with pytest.raises(ConfigError, match="folds=11: only 10 labelled patients"):
        finetune(store, labels, "random", out, replace(ARGS, folds=11))
    assert not out.exists()


def test_a_class_that_never_occurs_is_trained_around(
    cohort: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finetune(*cohort, "random", tmp_path / "run", replace(ARGS, epochs=1, run_folds=1))
    assert "no patient has kidney_low, liver_low, spleen_low" in caplog.text
    assert torch.isfinite(torch.tensor(read_scores(run)["rsna"]["mean"]))


@pytest.mark.parametrize(
    "values", [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"run_folds": 6}, {"run_folds": 0}, {"preload_mb": -1}]
)
def test_impossible_settings_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        FinetuneArgs(**values)  # type: ignore[arg-type]


SPLITS = {f"{number:04d}": "train" if number < 6 else "validation" if number < 8 else "test" for number in range(10)}


def test_a_fixed_split_trains_one_model_and_grades_the_test_patients(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    store, labels = cohort
    table = pd.read_csv(labels, dtype={"patient_id": str})
    table[table["patient_id"] != "0009"].to_csv(tmp_path / "some.csv", index=False)
    splits = {**SPLITS, "stranger": "test"}
    run = finetune(store, tmp_path / "some.csv", "random", tmp_path / "run", ARGS, splits=splits)
    tested = read_table(run, "predictions_test.csv")
    assert list(tested.columns) == ["patient_id", "series_id", *CLASS_COLUMNS]
    assert tested["patient_id"].tolist() == ["0008", "0009"]
    assert read_table(run, "oof_predictions.csv")["patient_id"].tolist() == ["0006", "0007"]
    _, metadata = read_weights(run / "fold_0.safetensors")
    assert metadata["patients_seen"] == patient_digests([name for name, split in SPLITS.items() if split != "test"])
    trained = table[table["patient_id"].map(SPLITS) == "train"]
    assert metadata["class_shares"] == pytest.approx(trained[list(CLASS_COLUMNS)].mean().to_dict(), abs=1e-6)
    assert load_models([run], "cpu", "fp32").class_shares == metadata["class_shares"]
    assert read_scores(run)["patients"] == 2
    assert read_table(run, "splits.csv")["split"].tolist() == list(SPLITS.values())
    first = (run / "predictions_test.csv").read_text()
    (run / "predictions_test.csv").unlink()
    finetune(store, tmp_path / "some.csv", "random", run, ARGS, splits=splits, resume=True)
    assert (run / "predictions_test.csv").read_text() == first


def test_a_split_without_validation_keeps_the_last_epoch(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    splits = {patient: "train" if split == "validation" else split for patient, split in SPLITS.items()}
    run = finetune(*cohort, "random", tmp_path / "run", ARGS, splits=splits)
    assert read_weights(run / "fold_0.safetensors")[1]["best_epoch"] == ARGS.epochs
    assert read_scores(run)["rsna"] is None
    before = (run / "fold_0.safetensors").stat().st_mtime_ns
    finetune(*cohort, "random", run, ARGS, splits=splits, resume=True)
    assert (run / "fold_0.safetensors").stat().st_mtime_ns == before


def test_a_fraction_uses_the_labels_of_some_patients(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    args = replace(ARGS, epochs=1, fraction=0.5)
    run = finetune(*cohort, "random", tmp_path / "run", args, splits=SPLITS)
    used = read_table(run, "splits.csv").set_index("patient_id")["used"]
    assert used.tolist().count(0) == 3
    assert used[["0006", "0007", "0008", "0009"]].all()
    assert read_scores(run)["fraction"] == 0.5
