"""A job that does not end costs itself and not the queue."""

import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from voco2d.service.web import process
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.intake import Intake
from voco2d.service.web.jobs import Jobs
from voco2d.service.web.process import WorkerProcess

from .conftest import nifti

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
    assert [path.name for path in args.jobs.iterdir()] == [sound.id]
    jobs.close()
