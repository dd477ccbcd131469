"""Gathers what the jobs of a study have left: predictions, labels, and an account of how they came about."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voco2d.config import to_tree
from voco2d.durable import write_durably
from voco2d.errors import UsageError
from voco2d.evaluation.study_analysis import study_columns
from voco2d.targets import TargetSet
from voco2d.training.run_dir import environment, write_text
from voco2d.training.study.args import TEST, TRAIN, StudyArgs
from voco2d.training.study.cohort import all_labels_path, read_split
from voco2d.training.study.jobs import COHORT, FINETUNE, PRETRAIN, Job, is_done, read_result, study_jobs
from voco2d.training.study.work import PREDICTIONS

PREDICTIONS_NAME = "predictions.csv.gz"
LABELS_NAME = "labels.csv"
SUMMARY_NAME = "study.json"


def collect(args: StudyArgs, out: Path, command: str) -> None:
    """Write `predictions.csv.gz`, `labels.csv` (of the tested patients) and `study.json`.

    Args:
        args: The study, all of whose jobs are done.
        out: Its folder.
        command: What was typed, for the record.

    Raises:
        UsageError: Jobs aren't done.
    """
    jobs = study_jobs(args)
    undone = [job for job in jobs if not is_done(out, job)]
    if undone:
        raise UsageError(f"{out}: {len(undone)} of {len(jobs)} jobs aren't done, such as {undone[0].name}; run them")
    finetunings = [job for job in jobs if job.kind == FINETUNE]
    predictions = pd.concat([_predictions(out, job) for job in _in_order(args, finetunings)], ignore_index=True)
    _write_gzip(out / PREDICTIONS_NAME, predictions[study_columns(args.finetune.target_set)].to_csv(index=False))
    labels = pd.read_csv(all_labels_path(out), dtype={"patient_id": str})
    tested = labels[labels["patient_id"].isin(set(predictions["patient_id"]))]
    write_text(out / LABELS_NAME, tested.sort_values("patient_id").to_csv(index=False))
    write_text(out / SUMMARY_NAME, json.dumps(_summary(args, out, jobs, labels, command), indent=1) + "\n")


def _in_order(args: StudyArgs, jobs: Sequence[Job]) -> list[Job]:
    """Order jobs as tables show them: arm, fraction, seed, fold."""
    arms = [arm.name for arm in args.arms]
    return sorted(jobs, key=lambda job: (arms.index(_arm(job)), job.fraction, job.seed, job.fold))


def _predictions(out: Path, job: Job) -> pd.DataFrame:
    # as text: digits must come out as they went in
    table = pd.read_csv(out / job.name / PREDICTIONS, dtype=str, keep_default_na=False)
    return table.assign(arm=_arm(job), fraction=f"{job.fraction:g}", seed=str(job.seed))


def _summary(args: StudyArgs, out: Path, jobs: Sequence[Job], labels: pd.DataFrame, command: str) -> dict[str, Any]:
    results = {job.name: read_result(out, job) for job in jobs}
    split = read_split(out, 0)
    return {
        **{key: value for key, value in environment().items() if key not in ("host", "started")},
        "command": command,
        "configuration": to_tree(args),
        "patients": results[COHORT]["patients"],
        "class_shares": {role: _shares(labels, split, role, args.finetune.target_set) for role in (TRAIN, TEST)},
        "compute": [_compute(arm.name, arm.start, jobs, results) for arm in args.arms],
        "jobs": results,
    }


def _shares(labels: pd.DataFrame, split: dict[str, str], role: str, targets: TargetSet) -> dict[str, float]:
    chosen = labels[labels["patient_id"].map(split) == role]
    means = chosen[list(targets.columns)].mean().fillna(0)
    return {str(column): round(float(share), 4) for column, share in means.items()}


def _compute(arm: str, start: str, jobs: Sequence[Job], results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Tell what an arm cost: a run of pretraining, and all its fine-tunings."""
    mine = [job for job in jobs if job.arm is not None and job.arm.name == arm]
    pretrained = [results[job.name] for job in mine if job.kind == PRETRAIN]
    finetuned = [results[job.name] for job in mine if job.kind == FINETUNE]
    first = pretrained[0] if pretrained else {}
    return {
        "arm": arm,
        "start": start,
        **{key: first.get(key) for key in ("steps", "images", "pixels", "patients_seen")},
        "seconds_a_step": float(np.median([run["seconds_a_step"] for run in pretrained])) if pretrained else None,
        "pretrain_seconds": round(sum(run["seconds"] for run in pretrained), 1),
        "finetune_seconds": round(sum(run["seconds"] for run in finetuned), 1),
        "tells_patients": all(run["start_tells"] for run in finetuned),
    }


def _write_gzip(path: Path, text: str) -> None:
    """Write a compressed text whose bytes depend on the text alone, atomically."""

    def pack(file: Path) -> None:
        with file.open("wb") as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
            packed.write(text.encode())

    write_durably(path, pack)


def _arm(job: Job) -> str:
    assert job.arm is not None
    return job.arm.name
