import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from voco2d.config import resolve
from voco2d.data.augment import AugmentArgs
from voco2d.data.cohort import patient_digests
from voco2d.data.phantom import PhantomArgs, write_cohort
from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.inference.predictor import Predictor
from voco2d.inference.report import report_run
from voco2d.models.aggregators import AGGREGATORS
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import read_weights, save_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.progress import Progress
from voco2d.store.build import PrepareArgs, prepare
from voco2d.targets import CLASS_COLUMNS
from voco2d.training import finetune as finetune_module
from voco2d.training.finetune import FinetuneArgs, finetune
from voco2d.training.finetune_args import PRESETS
from voco2d.training.optim import OptimArgs
from voco2d.training.tuning import TuningArgs

ARGS = FinetuneArgs(
    backbone="test_efficientnet",
    hidden=8,
    epochs=1,
    batch_size=4,
    folds=2,
    run_folds=1,
    device="cpu",
    readout=ReadoutArgs(slices=4, crop=32),
)
ALL_AT_ONCE = replace(
    ARGS,
    pooling="gem",
    aggregator="gru",
    bidirectional=False,
    layers=2,
    accumulate=2,
    ema=0.9,
    sampling="balanced",
    select="loss",
    patience=5,
    test_flips=("depth", "width"),
    readout=ReadoutArgs(slices=4, crop=28, neighbours=1, more_windows=((-45.0, 105.0),)),
    augment=AugmentArgs(flip_width=True, turn=True, rotate=10.0, gamma=0.2, histogram=0.5, cut_out=2),
    tuning=TuningArgs(freeze_first=1, stage_decay=0.8),
    optim=OptimArgs(schedule="cosine", warmup_steps=1),
)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    args = PhantomArgs(size=48, mean_slices=14, enriched=True, workers=1, masks=False, two_series_share=0.2)
    write_cohort(root, 8, 0, args)
    return root


@pytest.fixture(scope="module")
def store(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store") / "store"
    prepare([phantoms], out, PrepareArgs(preprocess=PreprocessArgs(size=(8, 32, 32)), workers=1))
    return out


def read_metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_prediction_reads_all_settings_and_gives_what_validation_gave(
    store: Path, phantoms: Path, tmp_path: Path
) -> None:
    run = finetune(store, phantoms / "train.csv", "random", tmp_path / "run", ALL_AT_ONCE)
    predictor = Predictor(run / "fold_0.safetensors", gates="off")
    assert predictor.readout_args == ALL_AT_ONCE.readout
    assert predictor.test_flips == ("depth", "width")
    expected = pd.read_csv(run / "oof_predictions.csv", dtype={"patient_id": str, "series_id": str})
    for row in expected.to_dict("records"):
        graded = predictor(phantoms / "train_images" / row["patient_id"] / row["series_id"])
        np.testing.assert_allclose(list(graded.values()), [row[column] for column in CLASS_COLUMNS], atol=1e-5)
    assert (
        Predictor(run, flips=(), gates="off")(phantoms / "train_images" / row["patient_id"] / row["series_id"])
        != graded
    )


@pytest.mark.parametrize("aggregator", [name for name in AGGREGATORS if name not in ("lstm", "gru")])
def test_other_aggregators_train_and_predict(store: Path, phantoms: Path, tmp_path: Path, aggregator: str) -> None:
    run = finetune(store, phantoms / "train.csv", "random", tmp_path / "run", replace(ARGS, aggregator=aggregator))
    assert len(Predictor(run)) == 1


@pytest.mark.parametrize("sections", [("slice_labels",), ("slice_labels", "slice_organs")])
def test_slice_labels_are_learnt_from(store: Path, phantoms: Path, tmp_path: Path, sections: tuple[str, ...]) -> None:
    findings = phantoms / "image_level_labels.csv"
    organs = pd.read_csv(findings, dtype=str)[["patient_id", "series_id", "instance_number"]].drop_duplicates()
    organs.assign(liver=0.5, spleen=1).to_csv(tmp_path / "organs.csv", index=False)
    given = {"slice_labels": findings, "slice_organs": tmp_path / "organs.csv"}
    tables = {name: given[name] for name in sections}
    labels = phantoms / "train.csv"
    run = finetune(store, labels, "random", tmp_path / "run", ARGS, **tables)
    plain = finetune(store, labels, "random", tmp_path / "plain", ARGS)
    _, metadata = read_weights(run / "fold_0.safetensors")
    expected = ["bowel", "extravasation", *(["liver", "spleen"] if len(sections) == 2 else [])]
    assert metadata["classifier"]["slice_targets"] == expected
    assert read_metrics(run)[0]["train_loss"] > read_metrics(plain)[0]["train_loss"] + 0.1
    assert len(Predictor(run)) == 1
    with pytest.raises(ConfigError, match="slice_labels was"):
        finetune(store, labels, "random", run, ARGS, resume=True)


def test_a_fold_stops_when_its_loss_falls_no_more(store: Path, phantoms: Path, tmp_path: Path) -> None:
    args = replace(ARGS, epochs=30, patience=2, optim=OptimArgs(lr=1e-7, schedule="constant"), dropout=0.0)
    args = replace(args, tuning=TuningArgs(probe=True))
    run = finetune(store, phantoms / "train.csv", "random", tmp_path / "run", replace(args, select="last"))
    metrics = read_metrics(run)
    losses = [line["val_loss"] for line in metrics]
    lowest = losses.index(min(losses)) + 1
    assert len(metrics) == min(30, lowest + 2)
    assert read_weights(run / "fold_0.safetensors")[1]["best_epoch"] == len(metrics)


class KilledError(Exception):
    """Stands for a killed process."""


def test_an_interrupted_run_goes_on_with_average_and_patience(
    store: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = replace(ALL_AT_ONCE, epochs=3)
    whole = finetune(store, phantoms / "train.csv", "random", tmp_path / "whole", args)

    class Stopping(Progress):
        taken = 0

        def advance(self, steps: int = 1, note: str = "") -> None:
            super().advance(steps, note)
            Stopping.taken += bool(note)
            if Stopping.taken == 3:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(finetune_module, "Progress", Stopping)
        with pytest.raises(KilledError):
            finetune(store, phantoms / "train.csv", "random", tmp_path / "run", args)
    run = finetune(store, phantoms / "train.csv", "random", tmp_path / "run", args, resume=True)
    assert read_metrics(run) == read_metrics(whole)
    assert (run / "oof_predictions.csv").read_text() == (whole / "oof_predictions.csv").read_text()


def test_tables_and_report_say_what_they_are(store: Path, phantoms: Path, tmp_path: Path) -> None:
    run = finetune(store, phantoms / "train.csv", "random", tmp_path / "run", replace(ARGS, select="last"))
    about = json.loads((run / "oof_predictions.json").read_text())
    assert (about["transductive"], about["select"], about["fraction"]) == (False, "last", 1.0)
    assert "No patient graded here was seen in pretraining. The last epoch is kept." in report_run(run).read_text()
    (run / "oof_predictions.json").write_text(json.dumps({**about, "transductive": True}))
    assert "Transductive: pretraining has seen patients" in report_run(run).read_text()


def test_fused_loops_are_taken_where_they_are_there(
    store: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UsageError, match="numba can't be imported"):
        finetune(store, phantoms / "train.csv", "random", tmp_path / "run", replace(ARGS, fast_cpu=True))
    assert not (tmp_path / "run").exists()


def test_the_paper_is_a_preset() -> None:
    args = resolve(FinetuneArgs, "paper", ["epochs=3"], PRESETS)
    assert (args.readout.slices, args.readout.crop, args.aggregator, args.hidden) == (48, 192, "lstm", 128)
    assert args.augment.turn
    assert args.augment.cut_out == 2
    assert args.epochs == 3


@pytest.mark.parametrize(
    "values",
    [{"accumulate": 0}, {"ema": 1.0}, {"patience": -1}, {"fraction": 0.0}, {"pooling": "sum"}, {"test_flips": ("up",)}],
)
def test_impossible_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        FinetuneArgs(**values)


def test_the_command_takes_splits_slices_and_flips(
    store: Path, phantoms: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    labels = pd.read_csv(phantoms / "train.csv", dtype=str)
    parts = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    pd.DataFrame({"patient_id": labels["patient_id"], "split": parts}).to_csv(tmp_path / "splits.csv", index=False)
    words = ("--init", "random", "--out", tmp_path / "run", "--splits", tmp_path / "splits.csv")
    slices = ("--slice-labels", phantoms / "image_level_labels.csv")
    keys = ("backbone=test_efficientnet", "epochs=1", "readout.slices=4", "readout.crop=32", "hidden=8", "fraction=0.5")
    assert run("finetune", store, "--labels", phantoms / "train.csv", *words, *slices, *keys)[0] == 0
    tested = pd.read_csv(tmp_path / "run" / "predictions_test.csv", dtype=str)
    assert set(tested["patient_id"]) == set(labels["patient_id"][6:])
    about = json.loads((tmp_path / "run" / "predictions_test.json").read_text())
    assert (about["transductive"], about["fraction"]) == (False, 0.5)
    scan = phantoms / "train_images" / labels["patient_id"][0]
    out = ("--model", tmp_path / "run", "--out", tmp_path / "predictions.csv", "--test-flips", "depth")
    assert run("predict", scan, *out, "--gates", "off")[0] == 0


def test_pretraining_on_a_test_patient_is_refused(store: Path, phantoms: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(phantoms / "train.csv", dtype=str)["patient_id"].tolist()
    seen = {"kind": "pretrain", "backbone": "test_efficientnet", "patients_seen": patient_digests(labels[-1:])}
    save_weights(tmp_path / "weights.safetensors", build_backbone("test_efficientnet").state_dict(), seen)
    splits = {patient: "test" if patient == labels[-1] else "train" for patient in labels}
    start, args = str(tmp_path / "weights.safetensors"), replace(ARGS, run_folds=None)
    with pytest.raises(LabelError, match="pretraining sees 1 patients"):
        finetune(store, phantoms / "train.csv", start, tmp_path / "run", args, splits=splits)
    args = replace(args, transductive=True)
    run = finetune(store, phantoms / "train.csv", start, tmp_path / "run", args, splits=splits)
    assert json.loads((run / "predictions_test.json").read_text())["transductive"] is True
