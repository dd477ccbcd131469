"""A study is done once, whatever happens to it on the way."""

import json
import shutil
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from voco2d.cli import main
from voco2d.data.cohort import patient_digests
from voco2d.errors import LabelError, UsageError, Voco2dError
from voco2d.models.checkpoint import newest_weights, read_weights
from voco2d.training.study.args import TEST, TRAIN, UNLABELED, Arm, StudyArgs
from voco2d.training.study.cohort import read_split
from voco2d.training.study.config import read_study
from voco2d.training.study.execution import run_job, run_study
from voco2d.training.study.jobs import FINETUNE, PRETRAIN, is_done, marker_path, stages, study_jobs
from voco2d.training.study.work import PREDICTIONS, refuse_leak


def predictions(out: Path, args: StudyArgs) -> dict[str, bytes]:
    return {job.name: (out / job.name / PREDICTIONS).read_bytes() for job in study_jobs(args) if job.kind == FINETUNE}


def test_jobs_follow_what_they_need(args: StudyArgs) -> None:
    jobs = study_jobs(replace(args, seeds=(0, 1)))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names) == 1 + 2 + 2 * 2 * 2
    for place, job in enumerate(jobs):
        assert all(names.index(need) < place for need in job.needs)
    assert [job for stage in stages(jobs) for job in stage] == jobs
    assert len({job.digest for job in jobs}) == len(jobs)
    longer = replace(args, finetune=replace(args.finetune, epochs=9), seeds=(0, 1))
    changed = {a.name for a, b in zip(jobs, study_jobs(longer), strict=True) if a.digest != b.digest}
    assert changed == {name for name in names if name.startswith(FINETUNE)}


def test_files_of_another_content_make_other_jobs(args: StudyArgs, tmp_path: Path) -> None:
    first, run, labels = tmp_path / "start.pt", tmp_path / "run", tmp_path / "labels.csv"
    run.mkdir()
    pretrain = args.arms[1].pretrain
    assert pretrain is not None
    arms = (
        Arm("random", "random"),
        Arm("file", str(first)),
        Arm("folder", str(run)),
        Arm("on", "pretrain", replace(pretrain, init=str(first))),
    )
    args = replace(args, arms=arms, fractions=(1.0,))
    of_store = replace(args, arms=arms[:1], cohort=replace(args.cohort, store="store", labels=str(labels)))
    with pytest.raises(UsageError, match=r"start.pt: can't be read \(No such file"):
        study_jobs(args)
    for path in (first, run / "step_1.safetensors", labels):
        path.write_bytes(b"one")
    before = {job.name: job.digest for job in study_jobs(args)}

    def changed() -> set[str]:
        return {job.name.split("-")[0] for job in study_jobs(args) if job.digest != before[job.name]}

    (run / "step_0.safetensors").write_bytes(b"not read")
    assert changed() == set()
    first.write_bytes(b"two")
    assert changed() == {"finetune/file", "pretrain/on", "finetune/on"}
    (run / "step_2.safetensors").write_bytes(b"newer")
    assert changed() == {"finetune/file", "pretrain/on", "finetune/on", "finetune/folder"}
    old = study_jobs(of_store)
    labels.write_bytes(b"two")
    assert all(a.digest != b.digest for a, b in zip(old, study_jobs(of_store), strict=True))


def test_every_job_leaves_its_marker(finished: Path, args: StudyArgs) -> None:
    for job in study_jobs(args):
        assert is_done(finished, job)
    result = json.loads(marker_path(finished, "pretrain/voco2d-seed0").read_text())
    assert (result["images"], result["patients_seen"]) == (88, 11)
    with pytest.raises(UsageError, match="made with other settings"):
        is_done(finished, study_jobs(replace(args, min_steps=99))[-1])


def test_pretraining_never_sees_who_is_tested(finished: Path, args: StudyArgs) -> None:
    roles = read_split(finished, 0)
    seen = set(read_weights(newest_weights(finished / "pretrain" / "voco2d-seed0"))[1]["patients_seen"])
    allowed = [patient for patient, role in roles.items() if role in (UNLABELED, TRAIN)]
    assert seen == set(patient_digests(allowed))
    tested = [patient for patient, role in roles.items() if role == TEST]
    assert len(tested) == 12
    assert not seen & set(patient_digests(tested))
    for name, table in predictions(finished, args).items():
        assert sorted(tested) == [row.split(b",")[0].decode() for row in table.splitlines()[1:]], name
    with pytest.raises(LabelError, match="has seen 1 patients who are"):
        refuse_leak({"patients_seen": patient_digests(tested[:1])}, roles, "a start")
    assert not refuse_leak({}, roles, "a start")


def test_patients_of_a_fraction_are_nested_and_the_same_for_all_arms(finished: Path) -> None:
    used = {}
    for path in (finished / FINETUNE).iterdir():
        table = pd.read_csv(path / "splits.csv", dtype={"patient_id": str})
        used[path.name] = set(table["patient_id"][(table["split"] == "train") & (table["used"] == 1)])
    assert used["random-labels0.5-seed0"] == used["voco2d-labels0.5-seed0"]
    assert used["random-labels1-seed0"] == used["voco2d-labels1-seed0"]
    assert used["random-labels0.5-seed0"] < used["random-labels1-seed0"]
    assert len(used["random-labels0.5-seed0"]) == 4


def test_a_killed_study_goes_on_and_comes_out_the_same(
    finished: Path, args: StudyArgs, study_file: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    out = tmp_path / "killed"
    shutil.copytree(finished / "cohort", out / "cohort")
    (out / "done").mkdir()
    shutil.copy(marker_path(finished, "cohort"), out / "done")
    process = processes.Process(target=main, args=(["study", "--config", str(study_file), "--out", str(out)],))
    process.start()
    while process.is_alive() and not any((out / "pretrain").glob("*/weights_*.safetensors")):
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not all(is_done(out, job) for job in study_jobs(args))
    run_study(args, out)
    assert predictions(out, args) == predictions(finished, args)


def test_one_job_at_a_time_as_an_array_does(finished: Path, args: StudyArgs, tmp_path: Path) -> None:
    jobs = study_jobs(args)
    with pytest.raises(UsageError, match=r"needs job 0 .cohort., which isn't done"):
        run_job(args, tmp_path, 1)
    with pytest.raises(UsageError, match=f"jobs 0 to {len(jobs) - 1}"):
        run_job(args, tmp_path, len(jobs))
    assert run_job(args, finished, len(jobs) - 1).kind == FINETUNE  # done already: nothing happens


def test_a_pretraining_killed_within_its_first_checkpoint_starts_anew(
    finished: Path, args: StudyArgs, tmp_path: Path
) -> None:
    for name in ("cohort", "done", PRETRAIN):
        shutil.copytree(finished / name, tmp_path / name)
    run = tmp_path / PRETRAIN / "voco2d-seed0"
    for path in (
        *run.glob("resume_*"),
        *run.glob("weights_*2.safetensors"),
        marker_path(tmp_path, "pretrain/voco2d-seed0"),
    ):
        path.unlink()
    (job,) = [job for job in study_jobs(args) if job.kind == PRETRAIN]
    run_job(args, tmp_path, study_jobs(args).index(job))
    anew, before = (read_weights(newest_weights(folder))[0] for folder in (run, finished / job.name))
    assert all(torch.equal(anew[name], before[name]) for name in before)


def test_a_job_that_fails_costs_those_that_need_it_only(finished: Path, args: StudyArgs, tmp_path: Path) -> None:
    for name in ("cohort", "done"):
        shutil.copytree(finished / name, tmp_path / name)
    (tmp_path / "nothing.safetensors").write_bytes(b"no weights")
    broken = replace(args, arms=(*args.arms, Arm("lost", str(tmp_path / "nothing.safetensors"))))
    marker_path(tmp_path, "finetune/random-labels0.5-seed0").unlink()
    with pytest.raises(Voco2dError, match=r"2 of 8 jobs failed, the first is finetune/lost-labels1-seed0: .*nothing"):
        run_study(broken, tmp_path)
    assert predictions(tmp_path, replace(args, arms=args.arms[:1], fractions=(0.5,))).keys() == {
        "finetune/random-labels0.5-seed0"
    }


@pytest.mark.slow
def test_processes_do_the_same_work(finished: Path, args: StudyArgs, tmp_path: Path) -> None:
    for name in ("cohort", "done", PRETRAIN):
        shutil.copytree(finished / name, tmp_path / name)
    small = replace(args, fractions=(0.5,))
    jobs = [job for job in study_jobs(small) if job.kind == FINETUNE]
    for job in jobs:
        marker_path(tmp_path, job.name).unlink()
    run_study(small, tmp_path, processes=2)
    assert predictions(tmp_path, small) == {job.name: predictions(finished, args)[job.name] for job in jobs}


@pytest.mark.slow
def test_dask_does_the_same_work(finished: Path, args: StudyArgs, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    for name in ("cohort", "done", PRETRAIN):
        shutil.copytree(finished / name, tmp_path / name)
    small = replace(args, fractions=(0.5,), arms=args.arms[:1])
    (job,) = [job for job in study_jobs(small) if job.kind == FINETUNE]
    marker_path(tmp_path, job.name).unlink()
    run_study(small, tmp_path, dask="local:1")
    assert predictions(tmp_path, small)[job.name] == predictions(finished, args)[job.name]


def test_slice_labels_of_the_cohort_are_learnt_from(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["cohort"]["phantom"] |= {"slice_labels": True, "unlabeled": 1, "validation": 0, "test": 4}
    del tree["arms"]["voco2d"], tree["analysis"]["claims"]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(tree | {"fractions": [1.0]}))
    run_study(read_study(file), tmp_path / "out")
    known = pd.read_csv(tmp_path / "out" / "cohort" / "slice_labels.csv")
    assert set(known["injury_name"]) == {"Bowel", "Active_Extravasation"}
    (job,) = (tmp_path / "out" / "finetune").iterdir()
    weights = load_file(job / "fold_0.safetensors")
    assert any(name.startswith("slice_head") for name in weights)


def test_folds_test_every_patient_of_a_store(finished: Path, tree: dict[str, Any], tmp_path: Path) -> None:
    cohort = finished / "cohort"
    tree["cohort"] = {"store": str(cohort / "store"), "labels": str(cohort / "labels.csv")}
    tree["split"] = {"folds": 2, "validation": 0.0}
    tree |= {"arms": {"random": {"start": "random"}}, "fractions": [1.0]}
    tree["analysis"]["claims"] = []
    tree["finetune"]["epochs"] = 1
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    args = read_study(path)
    run_study(args, tmp_path / "out")
    tables = [table.splitlines()[1:] for table in predictions(tmp_path / "out", args).values()]
    assert len(tables) == 2
    assert len({row.split(b",")[0] for table in tables for row in table}) == sum(map(len, tables)) == 23
