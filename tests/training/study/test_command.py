"""`voco2d study` from its file to its page, and its tables again from the predictions alone."""

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_from_the_file_to_the_page_and_again(run: Run, study_file: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished, out)  # its jobs are done; what is left is to gather, score and draw
    code, printed, error = run("study", "--config", study_file, "--out", out)
    assert (code, error) == (0, "")
    assert str(out / "report.html") in printed
    with gzip.open(out / "predictions.csv.gz", "rt") as stream:
        table = pd.read_csv(stream)
    assert list(table.columns[:4]) == ["arm", "fraction", "seed", "patient_id"]
    assert len(table) == 2 * 2 * 12
    labels = pd.read_csv(out / "labels.csv")
    assert set(labels["patient_id"]) == set(table["patient_id"])
    results = pd.read_csv(out / "results.csv")
    assert {"arm", "fraction", "seed", "metric", "value", "low", "high"} == set(results)
    assert set(results["seed"]) == {"0", "mean"}
    significance = pd.read_csv(out / "significance.csv")
    assert len(significance) == (2 + 1) * 4
    assert (significance["p_holm"].dropna() >= significance["p"].dropna()).all()
    about = json.loads((out / "study.json").read_text())
    assert about["patients"] == {"unlabeled": 3, "train": 8, "validation": 3, "test": 12}
    assert [entry["images"] for entry in about["compute"]] == [None, 88]
    page = (out / "report.html").read_text()
    assert page.count("<img") == 4 + 5 + 4
    assert "phantoms" in page
    assert str(tmp_path) not in page.replace(about["command"], "")

    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("predictions.csv.gz", "labels.csv", "study.json"):
        shutil.copy(out / name, copy)
    assert run("study", "--tables", copy, "resamples=20")[0] == 0  # as in the file: nothing changes
    made = [
        "results.csv",
        "results_plain.csv",
        "results_enriched.csv",
        "significance.csv",
        "report.html",
        *(f"figures/{f.name}" for f in (out / "figures").iterdir()),
    ]
    assert len(made) == 5 + 13
    for name in made:
        assert (copy / name).read_bytes() == (out / name).read_bytes(), name
    assert run("study", "--tables", copy, "analysis.resamples=3")[0] == 2


def test_scripts_for_slurm_run_every_job_in_order(run: Run, study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert run("study", "--config", study_file, "--out", out, "--slurm-array", "seeds=[0,1]")[0] == 0
    script = (out / "job.sbatch").read_text()
    assert '--job "$SLURM_ARRAY_TASK_ID"' in script
    assert "#SBATCH --time" in script
    assert str(study_file.absolute()) in script
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" >> "$LOG"\nwc -l < "$LOG"\n')
    fake.chmod(0o755)
    log = tmp_path / "log"
    env = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "LOG": str(log)}
    subprocess.run([str(out / "submit.sh")], check=True, env=env, capture_output=True)
    lines = log.read_text().splitlines()
    assert [word for line in lines for word in line.split() if "array" in word] == [
        "--array=0-0",
        "--array=1-6",
        "--array=7-10",
    ]
    assert "dependency" not in lines[0]
    assert [f"--dependency=afterany:{number}" in lines[number] for number in (1, 2, 3)] == [True] * 3
    assert lines[-1].endswith("job.sbatch tables")
    subprocess.run(["bash", "-n", str(out / "job.sbatch")], check=True)


def test_jobs_of_slurm_find_relative_paths(
    run: Run, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "called from"
    here.mkdir()
    shutil.copy(study_file, here / "study.yaml")
    (here / "start.pt").write_bytes(b"none")
    monkeypatch.chdir(here)
    words = ("--config", "study.yaml", "--out", "a study", "--slurm-array", "arms.random.start=start.pt")
    assert run("study", *words)[0] == 0
    fake = tmp_path / "bin" / "voco2d"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\npwd\necho $*\n")
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "3"}
    script = here / "a study" / "job.sbatch"
    done = subprocess.run(
        ["bash", script, "job"], check=True, env=env, cwd=script.parent, capture_output=True, text=True
    )
    folder, command = done.stdout.splitlines()
    assert Path(folder) == here
    assert command.endswith("arms.random.start=start.pt --job 3")
    assert f"#SBATCH --output='{here}/a study/slurm-%A_%a.log'" in script.read_text().splitlines()


def test_wrong_use_is_told(run: Run, study_file: Path, tmp_path: Path) -> None:
    assert run("study")[0] == 2
    assert "--tables DIR" in run("study")[2]
    assert run("study", "--config", tmp_path / "none.yaml", "--out", tmp_path / "out")[0] == 2
    assert run("study", "--config", study_file, "--out", tmp_path / "out", "--quick", "pretrain=3")[0] == 2
    assert (
        "holds no" in run("study", "--tables", tmp_path)[2] or "no such file" in run("study", "--tables", tmp_path)[2]
    )
    assert "needs job 0" in run("study", "--config", study_file, "--out", tmp_path / "out", "--job", 1)[2]
