"""What ends the process that grades, or hinders its start, costs a job at most and tells no identifier."""

import errno
import logging
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import Slices
from voco2d.service.web import process
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.intake import Intake
from voco2d.service.web.jobs import MOST_ATTEMPTS, Jobs
from voco2d.service.web.process import WorkerProcess, run_worker

from .conftest import PATIENT, Bench, MeanRuntime, dicom_zip, make_predictor, nifti, send

WAIT_S = 120


@pytest.mark.integration
def test_a_job_that_never_ends_fails_with_its_reason_and_the_next_is_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_RESTART_S", 0.0)
    args = ServeArgs(tmp_path / "state", longest_job_s=4.0, limits=UploadLimits(free_bytes=0))
    args.state.mkdir()
    jobs = Jobs(args.database_url)
    intake = Intake(args, jobs)
    (tmp_path / "scan").write_bytes(nifti())
    with (tmp_path / "scan").open("rb") as file:
        stuck, _ = intake.accept(file)
        file.seek(0)
        sound, _ = intake.accept(file)
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the other process finds what it is to load
    worker = WorkerProcess(args, partial(import_module("slow_service").load_stuck, tmp_path / "met"))
    try:
        worker.start()
        until = time.monotonic() + WAIT_S
        while (job := jobs.get(sound.id)) is None or job.state not in ("done", "failed"):
            assert time.monotonic() < until, jobs.counts()
            time.sleep(0.05)
    finally:
        worker.stop()
        intake.close()
    failed = jobs.get(stuck.id)
    assert failed is not None
    assert (failed.state, failed.reason, failed.attempts) == ("failed", "took longer than 4 s", 1)
    assert job.state == "done"
    assert not _lives(int((tmp_path / "met").read_text()))
    assert [path.name for path in args.jobs.iterdir()] == [sound.id]
    jobs.close()


class Left(BaseException):
    """The process would have ended now."""


def work(bench: Bench, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the worker in this process until it leaves with exit code 1."""
    for name in ("end_with_parent", "lead_group", "start_logging"):
        monkeypatch.setattr(process, name, lambda *_: None)
    monkeypatch.setattr(process.signal, "signal", lambda *_: None)

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(process.os, "_exit", leave)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, pytest.raises(Left, match=r"^1$"):
        run_worker(bench.args, lambda: (predictor, None), theirs)


def _lives(pid: int) -> bool:
    """Whether a process is there and did not end already, waiting for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class PanickingRuntime(MeanRuntime):
    """Fails as libraries written in Rust do."""

    def logits(self, _: Slices) -> Mapping[str, np.ndarray]:
        raise Left(PATIENT)


def test_what_is_no_exception_ends_the_process_and_tells_no_identifier(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send(bench.client(), dicom_zip())
    work(bench, make_predictor(PanickingRuntime()), monkeypatch)
    assert "the worker ended" in caplog.text
    assert PATIENT not in caplog.text


@dataclass
class AwayRuntime(MeanRuntime):
    """Answers, and the tables are gone."""

    database: Path = Path()

    def logits(self, slices: Slices) -> Mapping[str, np.ndarray]:
        rename(self.database, "voco2d_jobs", "gone")
        return super().logits(slices)


def rename(database: Path, table: str, name: str) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_a_database_that_is_away_does_not_count_against_the_upload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = send(bench.client(), nifti()).json()["id"]
    database = bench.args.state / "jobs.sqlite"

    def attempts() -> tuple[str, int]:
        job = bench.jobs.get(job_id)
        assert job is not None
        return job.state, job.attempts

    for _ in range(MOST_ATTEMPTS + 1):
        work(bench, make_predictor(AwayRuntime(database=database)), monkeypatch)
        rename(database, "gone", "voco2d_jobs")
        assert attempts() == ("running", 1)
    work(bench, make_predictor(PanickingRuntime()), monkeypatch)
    assert attempts() == ("running", 1)
    work(bench, make_predictor(PanickingRuntime()), monkeypatch)
    assert attempts() == ("running", 2), "what the upload itself does counts as before"


def test_a_database_that_refuses_a_result_ends_the_process_and_tells_no_identifier(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = send(bench.client(), dicom_zip()).json()["id"]
    with closing(sqlite3.connect(bench.args.state / "jobs.sqlite")) as database, database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON voco2d_jobs WHEN new.state IN ('done', 'failed') "
            "BEGIN SELECT raise(ABORT, 'no'); END"
        )
    with caplog.at_level(logging.DEBUG):
        work(bench, make_predictor(), monkeypatch)
    assert "the worker ended" in caplog.text
    assert PATIENT not in caplog.text
    job = bench.jobs.get(job_id)
    assert job is not None
    assert job.state == "running"  # the next process takes it up


class FakeProcess:
    """Stands for a process; the second can't be begun."""

    made: list["FakeProcess"]
    again: threading.Event
    pid, exitcode = None, -9  # no id: whatever has it would be killed

    def __init__(self, *, args: tuple, **_: object) -> None:
        self._told, self.ended, self._begun = args[2], threading.Event(), False
        self.made.append(self)

    def start(self) -> None:
        if len(self.made) == 2:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        self._begun = True
        self._told.send(None)
        if len(self.made) == 3:
            self.again.set()

    def join(self, timeout: float | None = None) -> None:
        assert self._begun, "can only join a started process"
        self.ended.wait(timeout)

    def is_alive(self) -> bool:
        return not self.ended.is_set()

    def terminate(self) -> None:
        self.ended.set()

    kill = terminate


def test_a_worker_that_cannot_be_started_again_at_once_is_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_RESTART_S", 0.0)
    FakeProcess.made, FakeProcess.again = [], threading.Event()
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(context, "Process", FakeProcess)
    worker = WorkerProcess(ServeArgs(tmp_path / "state"), lambda: (make_predictor(), None))
    worker.start()
    FakeProcess.made[0].ended.set()
    assert FakeProcess.again.wait(WAIT_S)
    worker.stop()
