"""What watches a pretraining run from inside the loop: the alarm, the probe and the writers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from voco2d.errors import LabelError, TrainingStoppedError
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.checkpoint import read_weights
from voco2d.targets import TARGETS
from voco2d.training.optim import OptimArgs
from voco2d.training.pretrain import PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import saved_steps, weights_path
from voco2d.training.probe import ProbeArgs
from voco2d.training.symptoms import AlarmArgs
from voco2d.training.writers import TENSORBOARD_NAME

ARGS = PretrainArgs(
    backbone="test_efficientnet",
    steps=6,
    batch_size=2,
    checkpoint_every=6,
    log_every=1,
    device="cpu",
    schedule_steps=6,
    method=VoCoArgs(crop=32, slices=2, hidden=16),
    optim=OptimArgs(lr=1e-3),
)
SICK = AlarmArgs(patience_steps=2, feature_std=100.0)
"""No feature deviates that much, so that every record shows a collapse."""


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = (read_weights(weights_path(run, 6))[0] for run in (first, second))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture
def labels(tmp_path: Path) -> str:
    """Every second of the five patients has an injured liver."""
    table = pd.DataFrame({"patient_id": [f"p{number}" for number in range(5)]})
    for name, target in TARGETS.items():
        for grade, column in enumerate(target.columns):
            sick = (np.arange(5) % 2 == 0) & (name == "liver")
            table[column] = np.where(sick, grade == len(target.classes) - 1, grade == 0).astype(int)
    table.to_csv(tmp_path / "labels.csv", index=False)
    return str(tmp_path / "labels.csv")


def test_an_alarm_is_told_once_and_changes_nothing(store: Path, tmp_path: Path) -> None:
    plain = pretrain(store, tmp_path / "plain", ARGS)
    told = pretrain(store, tmp_path / "told", replace(ARGS, alarm=SICK))
    assert [record.get("alarm") for record in metrics(told)] == [None, None, "collapse", None, None, None]
    assert all("alarm" not in record for record in metrics(plain))
    assert_same_weights(plain, told)


def test_a_sick_run_stops_with_a_checkpoint_and_goes_on_when_told(store: Path, tmp_path: Path) -> None:
    stopping = replace(ARGS, alarm=replace(SICK, stop=True))
    with pytest.raises(TrainingStoppedError, match=r"^step 3: collapse: all crops get nearly the same feature"):
        pretrain(store, tmp_path / "run", stopping)
    assert saved_steps(tmp_path / "run") == [3]
    with pytest.raises(TrainingStoppedError, match=r"--resume alarm\.stop=false"):
        pretrain(store, tmp_path / "run", stopping, resume=True)
    run = pretrain(store, tmp_path / "run", replace(ARGS, alarm=SICK), resume=True)
    assert [record["step"] for record in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in metrics(run) if "alarm" in record] == [3]
    assert_same_weights(run, pretrain(store, tmp_path / "whole", ARGS))


def test_a_probe_is_logged_when_due_and_changes_nothing(store: Path, tmp_path: Path, labels: str) -> None:
    probe = ProbeArgs(labels=labels, every=4, folds=2, slices=2, crop=32)
    run = pretrain(store, tmp_path / "probed", replace(ARGS, log_every=3, probe=probe))
    assert [record["step"] for record in metrics(run)] == [3, 4, 6]
    probed = [record for record in metrics(run) if "probe_auroc" in record]
    assert [record["step"] for record in probed] == [4]
    assert 0 <= probed[0]["probe_auroc_liver"] <= 1
    assert probed[0]["probe_auroc_bowel"] is None
    assert_same_weights(run, pretrain(store, tmp_path / "plain", ARGS))


def test_patients_that_are_left_out_are_not_probed(store: Path, tmp_path: Path, labels: str) -> None:
    labelled = pd.read_csv(labels).head(3)
    labelled.to_csv(labels, index=False)
    args = replace(ARGS, probe=ProbeArgs(labels=labels, folds=2))
    with pytest.raises(LabelError, match="leaves all its patients out"):
        pretrain(store, tmp_path / "run", args, exclude_patients=labelled["patient_id"])
    assert not (tmp_path / "run").exists()


def test_tensorboard_has_each_step_once_after_a_resume(store: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    half = replace(ARGS, steps=3, checkpoint_every=2)
    pretrain(store, tmp_path / "run", half)
    weights_path(tmp_path / "run", 3).unlink()
    run = pretrain(store, tmp_path / "run", ARGS, resume=True)
    read = EventAccumulator(str(run / TENSORBOARD_NAME)).Reload()
    losses = {event.step: event.value for event in read.Scalars("loss")}
    assert sorted(losses) == [1, 2, 3, 4, 5, 6]
    assert len(read.Scalars("loss")) == 6
    assert losses[6] == pytest.approx(metrics(run)[-1]["loss"])


def test_without_writers_nothing_is_written_besides(store: Path, tmp_path: Path) -> None:
    run = pretrain(store, tmp_path / "run", replace(ARGS, writers=()))
    assert not (run / TENSORBOARD_NAME).exists()
