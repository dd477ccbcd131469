import importlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from voco2d.errors import Voco2dError
from voco2d.workers import Lost, run_isolated, run_jobs

Job = Callable[[int], int]

SOURCE = """
import os, signal, time

def odd_job(number: int) -> int:
    if number == 100:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 101:
        time.sleep(60)
    if number == 102:
        raise OSError(28, "No space left on device")
    return number * number
"""


@pytest.fixture
def odd_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Square small numbers, and do what a bad decoder may do with others; in a module that other processes find."""
    (tmp_path / "odd_jobs.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_jobs", raising=False)
    job: Job = importlib.import_module("odd_jobs").odd_job
    return job


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_kills_its_process_costs_itself_only(odd_job: Job, workers: int) -> None:
    results = dict(run_isolated(odd_job, [1, 100, 2, 3, 4], workers))
    assert results == {1: 1, 2: 4, 3: 9, 4: 16, 100: Lost("the reader crashed on it", alone=workers == 1)}


def test_a_job_that_takes_too_long_costs_itself_only(odd_job: Job) -> None:
    begun = time.monotonic()
    results = dict(run_isolated(odd_job, [1, 101, 2, 3], 2, seconds=3.0))
    assert time.monotonic() - begun < 30
    assert results.pop(101) == Lost("took longer than 3 s", alone=False, too_long=True)
    assert results == {1: 1, 2: 4, 3: 9}


def test_an_error_of_a_job_ends_the_run(odd_job: Job) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(run_isolated(odd_job, [1, 102], 1))


def test_jobs_without_isolation_name_a_dead_worker(odd_job: Job) -> None:
    assert dict(run_jobs(odd_job, [1, 2], 1)) == {1: 1, 2: 4}
    with pytest.raises(Voco2dError, match="a worker process died"):
        list(run_jobs(odd_job, [100, 1], 2))


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(guard: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(
            "import pathlib, signal, sys, time, os\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has what it runs aside ignore it
            "from voco2d.errors import Voco2dError\n"
            "from voco2d.workers import run_isolated\n"
            "def work(folder):\n"
            "    pathlib.Path(folder, str(os.getpid())).touch()\n"
            "    time.sleep(60)\n"
            f"if {guard}:\n"
            "    try:\n"
            "        list(run_isolated(work, [sys.argv[1]] * 2, 2))\n"
            "    except Voco2dError as error:\n"
            "        print(error)\n"
        )
        return path

    return write


def test_a_script_without_a_guard_is_told_so(script: Callable[[str], Path], tmp_path: Path) -> None:
    words = [sys.executable, str(script("True")), str(tmp_path)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "has no `if __name__" in run.stdout


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(script: Callable[[str], Path], tmp_path: Path, end: signal.Signals) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    words = [sys.executable, str(script('__name__ == "__main__"')), str(folder)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        begun = time.monotonic()
        parent.send_signal(end)
        parent.wait()
    assert time.monotonic() - begun < 100
    while any(Path("/proc", path.name).exists() for path in folder.iterdir()):
        assert time.monotonic() - begun < 100
        time.sleep(0.05)
