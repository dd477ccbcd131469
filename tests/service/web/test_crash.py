"""Processes are killed in the middle: what was accepted is answered, and nothing twice."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from voco2d.service.web.jobs import Jobs

from .conftest import TOKEN, nifti

SCRIPT = Path(__file__).parent / "slow_service.py"
WAIT_S = 120


class Running:
    """The service as a process of its own."""

    def __init__(self, state: Path) -> None:
        environment = {**os.environ, "VOCO2D_TOKEN": TOKEN}
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, state, "0"], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        found = re.search(r"http://[^/]+/", self.process.stdout.readline())
        assert found, "the service did not start"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        patient = httpx2.HTTPTransport(retries=8)  # the address is told once it is bound, before anything listens there
        self.client = httpx2.Client(base_url=found[0], headers=headers, timeout=WAIT_S, transport=patient)

    def send(self) -> str:
        answer = self.client.post("/api/jobs", files={"scan": ("scan", nifti())})
        assert answer.status_code == 202
        return answer.json()["id"]

    def jobs(self) -> dict[str, dict]:
        return {job["id"]: job for job in self.client.get("/api/jobs").json()["jobs"]}

    def worker(self) -> int:
        """Process id of the worker: the child that isn't the resource tracker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        named = [int(pid) for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return named[0]

    def wait(self, ready: Callable[[dict[str, dict]], bool]) -> dict[str, dict]:
        until = time.monotonic() + WAIT_S
        while not ready(jobs := self.jobs()):
            assert time.monotonic() < until, jobs
            time.sleep(0.05)
        return jobs

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def make() -> Running:
        started.append(Running(tmp_path / "state"))
        return started[-1]

    yield make
    for running in started:
        running.client.close()
        if running.process.poll() is None:
            running.end(signal.SIGTERM)
        assert running.process.stdout is not None
        running.process.stdout.close()


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the worker below /proc")
@pytest.mark.timeout(900)
def test_what_was_accepted_is_answered_whoever_is_killed(start: Callable[[], Running], tmp_path: Path) -> None:
    service = start()
    accepted = [service.send() for _ in range(8)]
    service.wait(lambda jobs: any(job["state"] == "running" for job in jobs.values()))
    os.kill(service.worker(), signal.SIGKILL)
    accepted.append(service.send())
    service.wait(lambda jobs: sum(job["state"] == "done" for job in jobs.values()) >= 2)
    half = tmp_path / "state" / "incoming" / ("f" * 32)
    half.mkdir()  # as an upload that is cut short leaves it
    stray = tmp_path / "state" / "jobs" / ("e" * 32)
    stray.mkdir()
    service.end(signal.SIGKILL)

    service = start()
    assert not half.exists()
    assert not stray.exists()
    jobs = service.wait(lambda jobs: all(job["state"] in ("done", "failed") for job in jobs.values()))
    assert set(jobs) == set(accepted)  # in = out: none was refused
    assert {job["state"] for job in jobs.values()} == {"done"}
    assert sorted(path.name for path in (tmp_path / "state" / "jobs").iterdir()) == sorted(accepted)
    for job_id in accepted:
        assert service.client.get(f"/api/jobs/{job_id}/result").json()["studies"][0]["status"] == "assessed"

    waiting = service.send()
    service.wait(lambda jobs: jobs[waiting]["state"] == "running")
    assert service.end(signal.SIGINT) == 0
    jobs_left = Jobs(f"sqlite:///{tmp_path / 'state' / 'jobs.sqlite'}")
    job = jobs_left.get(waiting)
    jobs_left.close()
    assert job is not None
    assert (job.state, job.attempts) in (("waiting", 0), ("done", 1))  # done where it was faster than the signal


@pytest.mark.integration
def test_postgresql_keeps_jobs_and_results_over_a_restart(
    start: Callable[[], Running], tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOCO2D_DATABASE", postgres)
    service = start()
    job_id = service.send()
    service.wait(lambda jobs: jobs[job_id]["state"] == "done")
    before = service.client.get(f"/api/jobs/{job_id}/result").json()
    assert service.end(signal.SIGTERM) == 0
    service = start()
    assert service.client.get(f"/api/jobs/{job_id}/result").json() == before
    picture = before["volumes"][0]["images"][0]["file"]
    assert service.client.get(f"/api/jobs/{job_id}/files/{picture}").status_code == 200
    assert not (tmp_path / "state" / "jobs.sqlite").exists()
