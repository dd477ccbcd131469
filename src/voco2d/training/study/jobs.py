"""The jobs of a study, what each waits for, and the marker that says that one is done."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, Final, Literal

from voco2d.config import Tree, to_tree
from voco2d.errors import UsageError
from voco2d.models.checkpoint import newest_weights
from voco2d.training.finetune_args import MAY_CHANGE as FINETUNE_MAY_CHANGE
from voco2d.training.initialisation import IMAGENET, RANDOM
from voco2d.training.pretrain_args import MAY_CHANGE as PRETRAIN_MAY_CHANGE
from voco2d.training.run_dir import write_text
from voco2d.training.study.args import Arm, StudyArgs

Kind = Literal["cohort", "pretrain", "finetune"]
COHORT: Final = "cohort"
PRETRAIN: Final = "pretrain"
FINETUNE: Final = "finetune"

_FORMAT = 1
_PRETRAIN_FREE = {*PRETRAIN_MAY_CHANGE} - {"steps"}
"""What may change between two calls without changing what comes out."""


@dataclass(frozen=True)
class Job:
    """One piece of work, in a folder of its own.

    Args:
        kind: What is done.
        name: Its folder below the study's.
        needs: Names of the jobs that must be done before.
        digest: Of every setting that decides what comes out, those of the jobs it needs among them.
        arm: Whose start is made or used.
        seed: Of everything random.
        fold: The part of the patients that is tested.
        fraction: Share of the labels.
    """

    kind: Kind
    name: str
    needs: tuple[str, ...]
    digest: str
    arm: Arm | None = None
    seed: int = 0
    fold: int = 0
    fraction: float = 1.0


def study_jobs(args: StudyArgs) -> list[Job]:
    """List every job, stage by stage, and within one seed by seed: one stopped early still compares all arms.

    Raises:
        UsageError: A file that decides what comes out can't be read.
        CheckpointError: An arm's folder holds no weights.
    """
    weights = {arm.name: _weights(arm) for arm in args.arms}
    cohort = Job(COHORT, COHORT, (), _digest([], _cohort_tree(args)))
    runs = [(seed, fold) for seed in args.seeds for fold in range(args.split.folds)]
    pretraining = {
        (arm.name, seed, fold): _pretrain_job(args, arm, seed, fold, cohort, weights[arm.name])
        for seed, fold in runs
        for arm in args.arms
        if arm.pretrain is not None
    }
    # the long ones first: the last job of a stage is what idle processes wait for
    fractions = sorted(args.fractions, reverse=True)
    finetuning = [
        _finetune_job(
            args, arm, fraction, seed, fold, pretraining.get((arm.name, seed, fold), cohort), weights[arm.name]
        )
        for seed, fold in runs
        for fraction in fractions
        for arm in args.arms
    ]
    jobs = [cohort, *pretraining.values(), *finetuning]
    return [job for stage in _by_depth(jobs) for job in stage]


def stages(jobs: Sequence[Job]) -> list[list[Job]]:
    """Part jobs into stages, in their order; whatever a job needs lies in an earlier one."""
    return _by_depth(jobs)


def _by_depth(jobs: Sequence[Job]) -> list[list[Job]]:
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.name] = 1 + max((depth[need] for need in job.needs), default=-1)
    return [[job for job in jobs if depth[job.name] == level] for level in range(max(depth.values()) + 1)]


def marker_path(out: Path, name: str) -> Path:
    """Name the file that is there once a job is done."""
    return out / "done" / f"{name.replace('/', '-')}.json"


def is_done(out: Path, job: Job) -> bool:
    """Tell whether a job is done.

    Raises:
        UsageError: It was done with other settings.
    """
    path = marker_path(out, job.name)
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("digest") != job.digest:
        raise UsageError(f"{out / job.name}: made with other settings; choose another --out, or delete it and {path}")
    return True


def mark_done(out: Path, job: Job, result: Mapping[str, Any]) -> None:
    """Say that a job is done, and what came out."""
    path = marker_path(out, job.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"job": job.name, "digest": job.digest, **result}, indent=1) + "\n")


def read_result(out: Path, job: Job) -> dict[str, Any]:
    """Read what `mark_done` wrote."""
    result: dict[str, Any] = json.loads(marker_path(out, job.name).read_text(encoding="utf-8"))
    return result


def _pretrain_job(args: StudyArgs, arm: Arm, seed: int, fold: int, cohort: Job, weights: Tree) -> Job:
    assert arm.pretrain is not None
    arm = replace(arm, pretrain=replace(arm.pretrain, seed=seed))
    tree = _without(to_tree(arm.pretrain), _PRETRAIN_FREE)
    return Job(
        kind=PRETRAIN,
        name=f"{PRETRAIN}/{arm.name}-seed{seed}{_fold_name(args, fold)}",
        needs=(cohort.name,),
        digest=_digest([cohort], {"pretrain": tree, "on": args.split.pretrain_on, "fold": fold, **weights}),
        arm=arm,
        seed=seed,
        fold=fold,
    )


def _finetune_job(args: StudyArgs, arm: Arm, fraction: float, seed: int, fold: int, start: Job, weights: Tree) -> Job:
    finetune = _without(to_tree(args.finetune), {*FINETUNE_MAY_CHANGE, "fraction", "seed"})
    if finetune["targets"] is None:
        del finetune["targets"]  # or studies that were begun before there was a choice would begin anew
    decides = {"finetune": finetune, "min_steps": args.min_steps, "fraction": fraction, "seed": seed, "fold": fold}
    return Job(
        kind=FINETUNE,
        name=f"{FINETUNE}/{arm.name}-labels{fraction:g}-seed{seed}{_fold_name(args, fold)}",
        needs=(start.name,),
        # those of a pretraining are in the digest of its job
        digest=_digest([start], {**decides, "start": arm.start, **({} if arm.pretrain else weights)}),
        arm=arm,
        seed=seed,
        fold=fold,
        fraction=fraction,
    )


def _cohort_tree(args: StudyArgs) -> Tree:
    cohort, split = to_tree(args.cohort), _without(to_tree(args.split), {"pretrain_on"})
    if args.cohort.store is None:
        del cohort["phantom"]["keep_scans"], cohort["phantom"]["draw"]["workers"]
        return {"phantom": cohort["phantom"]}
    given = {key: cohort[key] for key in ("store", "labels", "slice_labels") if key != "slice_labels" or cohort[key]}
    read = {f"{key}_content": _content(Path(path)) for key, path in given.items() if key != "store" and path}
    return {**given, "split": split, **read}


def _weights(arm: Arm) -> Tree:
    """Digest the checkpoint that an arm begins with: another one under the same name must not be mixed with it."""
    start = arm.start if arm.pretrain is None else arm.pretrain.init
    if start in (RANDOM, IMAGENET):
        return {}
    path = Path(start)
    return {"start_content": _content(newest_weights(path) if path.is_dir() else path)}


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return file_digest(stream, lambda: blake2b(digest_size=12)).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); the study's jobs need it") from error


def _fold_name(args: StudyArgs, fold: int) -> str:
    return f"-fold{fold}" if args.split.folds > 1 else ""


def _without(tree: Tree, keys: set[str]) -> Tree:
    return {key: value for key, value in tree.items() if key not in keys}


def _digest(needs: Sequence[Job], tree: Tree) -> str:
    text = json.dumps([_FORMAT, [job.digest for job in needs], tree], sort_keys=True)
    return blake2b(text.encode(), digest_size=12).hexdigest()
