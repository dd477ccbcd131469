"""Does one job of a study: pretrains an arm, or fine-tunes from it and grades the test patients."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from voco2d.data.cohort import patient_digests, read_labels
from voco2d.data.pretrain_overlap import seen_digests
from voco2d.errors import CheckpointError, LabelError, Voco2dError
from voco2d.evaluation.study_analysis import FLOAT_FORMAT, patient_table
from voco2d.evaluation.tables import read_predictions
from voco2d.models.checkpoint import backbone_state, newest_weights, read_weights
from voco2d.store.volume_store import VolumeStore
from voco2d.training.finetune import FinetuneArgs, finetune
from voco2d.training.initialisation import IMAGENET, RANDOM
from voco2d.training.pretrain import pretrain
from voco2d.training.run_dir import RunDir, write_text
from voco2d.training.study.args import TEST, TRAIN, UNLABELED, VALIDATION, Arm, StudyArgs
from voco2d.training.study.cohort import Roles, all_labels_path, make_cohort, read_split, slice_labels_path, store_of
from voco2d.training.study.config import images, pixels
from voco2d.training.study.jobs import COHORT, FINETUNE, PRETRAIN, Job, is_done, mark_done

PREDICTIONS = "predictions.csv"
RUN_PREDICTIONS = "predictions_test.csv"
"""What `finetune` calls them; ours has a row a patient."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A job with all it takes to do it, in any process that sees the study's folder.

    Args:
        job: What is to be done.
        args: The study.
        out: Its folder.
        workers: Processes that the cohort's job may start.
    """

    job: Job
    args: StudyArgs
    out: Path
    workers: int = 1


@dataclass(frozen=True)
class Failure:
    """A job that failed, and why."""

    job: str
    reason: str


def do(task: Task) -> Failure | None:
    """Do a job unless it is done, and mark it; what a user can mend is returned, so that other jobs go on."""
    try:
        if not is_done(task.out, task.job):
            begun, cpu = time.monotonic(), time.process_time()
            result = _WORK[task.job.kind](task)
            spent = {"seconds": round(time.monotonic() - begun, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            mark_done(task.out, task.job, {**result, **spent, "finished": now})
    except Voco2dError as error:
        return Failure(task.job.name, " ".join(str(error).split()))
    return None


def pretraining_patients(roles: Roles, on: str) -> set[str]:
    """Return who may be pretrained on: never a patient of validation or test."""
    allowed = {UNLABELED} if on == UNLABELED else {UNLABELED, TRAIN}
    return {patient for patient, role in roles.items() if role in allowed}


def refuse_leak(metadata: Mapping[str, Any], roles: Roles, source: Path | str) -> bool:
    """Refuse a start that has seen patients who are tested or validated on.

    Args:
        metadata: Of its checkpoint.
        roles: Of the patients.
        source: What messages call it.

    Returns:
        Whether it says what it has seen.

    Raises:
        LabelError: It has seen some.
    """
    held_out = [patient for patient, role in roles.items() if role in (VALIDATION, TEST)]
    try:
        seen = set(seen_digests(metadata, source)).intersection(patient_digests(held_out))
    except CheckpointError:
        _log.warning("%s doesn't say which patients it has seen; test patients may be among them", source)
        return False
    if seen:
        raise LabelError(f"{source}: has seen {len(seen)} patients who are validated on or tested; leave that arm out")
    return True


def _make_cohort(task: Task) -> dict[str, Any]:
    return {"patients": make_cohort(task.args, task.out, task.workers)}


def _pretrain(task: Task) -> dict[str, Any]:
    job, arm = task.job, _arm(task.job)
    assert arm.pretrain is not None
    store = store_of(task.args, task.out)
    allowed = pretraining_patients(read_split(task.out, job.fold), task.args.split.pretrain_on)
    others = set(VolumeStore(store).index["patient_id"].astype(str)) - allowed
    run = pretrain(store, task.out / job.name, arm.pretrain, resume=True, exclude_patients=others)
    metadata = read_weights(newest_weights(run))[1]
    refuse_leak(metadata, read_split(task.out, job.fold), run)
    seconds = [record["seconds"] for record in RunDir(run).read_log() if "seconds" in record]
    return {
        "steps": arm.pretrain.steps,
        "images": images(arm),
        "pixels": pixels(arm),
        "patients_seen": len(metadata["patients_seen"]),
        "seconds_a_step": float(np.median(seconds)) if seconds else None,
    }


def _finetune(task: Task) -> dict[str, Any]:
    job, roles = task.job, read_split(task.out, task.job.fold)
    start, told = _start(task, roles)
    args = _finetune_args(task, roles)
    run = finetune(
        store_of(task.args, task.out),
        all_labels_path(task.out),
        start,
        task.out / job.name,
        args,
        resume=True,
        splits={patient: role for patient, role in roles.items() if role != UNLABELED},
        slice_labels=slice_labels_path(task.args, task.out),
    )
    targets = args.target_set
    graded = read_predictions(run / RUN_PREDICTIONS, targets)
    table = patient_table(graded, read_labels(all_labels_path(task.out), targets), targets)
    if set(table["patient_id"]) != {patient for patient, role in roles.items() if role == TEST}:
        raise LabelError(f"{run}: its predictions are not of the test patients; delete the folder and start again")
    write_text(run / PREDICTIONS, table.to_csv(index=False, float_format=FLOAT_FORMAT))
    return {"epochs": args.epochs, "train_patients": _train_patients(roles, job.fraction), "start_tells": told}


def _start(task: Task, roles: Roles) -> tuple[str, bool]:
    """Return where the classifier starts, and whether that says which patients it has seen."""
    arm = _arm(task.job)
    if arm.start in (RANDOM, IMAGENET):
        return arm.start, True
    path = task.out / task.job.needs[0] if arm.pretrain is not None else Path(arm.start)
    return str(path), refuse_leak(backbone_state(path, task.args.finetune.backbone)[1], roles, path)


def _finetune_args(task: Task, roles: Roles) -> FinetuneArgs:
    args, job = task.args.finetune, task.job
    steps_an_epoch = math.ceil(_train_patients(roles, job.fraction) / args.batch_size)
    epochs = max(args.epochs, math.ceil(task.args.min_steps / steps_an_epoch))
    return replace(args, epochs=epochs, fraction=job.fraction, seed=job.seed)


def _train_patients(roles: Roles, fraction: float) -> int:
    return max(math.ceil(fraction * list(roles.values()).count(TRAIN) - 1e-9), 1)


def _arm(job: Job) -> Arm:
    assert job.arm is not None
    return job.arm


_WORK = {COHORT: _make_cohort, PRETRAIN: _pretrain, FINETUNE: _finetune}
