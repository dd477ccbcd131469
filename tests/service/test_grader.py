"""A study that hangs, crashes or fails costs itself and not those after it."""

import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from voco2d.errors import ReadError, Voco2dError
from voco2d.service.grader import Grader, KilledError, NotReadyError

pytestmark = pytest.mark.integration


@pytest.fixture
def graded_by_name(monkeypatch):
    """What is loaded; the other process finds it as this one does."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("graded_by_name")


def test_a_study_that_hangs_crashes_or_fails_costs_itself(graded_by_name):
    with Grader(graded_by_name.load, longest_s=2.0) as grader:
        begun = time.monotonic()
        with pytest.raises(Voco2dError, match=r"^took longer than 2 s$"):
            grader(Path("hang"), 1)
        assert time.monotonic() - begun < 60
        assert grader(Path("sound"), 7) == {"result.json": b"7"}
        with pytest.raises(Voco2dError, match="crashed"):
            grader(Path("crash"), 1)
        with pytest.raises(ReadError, match="shows no body"):
            grader(Path("fail"), 1)
        with pytest.raises(RuntimeError, match=r"^OddError$"):
            grader(Path("odd"), 1)
        assert grader(Path("sound"), 8) == {"result.json": b"8"}
        assert grader(Path("rest"), 2, True) == {"rest": b"True"}


def test_what_cannot_be_loaded_is_told_at_the_start(graded_by_name):
    with pytest.raises(Voco2dError, match="no weights"):
        Grader(graded_by_name.refuse, longest_s=0.0)


def test_a_process_that_was_killed_is_replaced_and_a_study_that_it_was_at_is_not_blamed(graded_by_name):
    with Grader(graded_by_name.load, longest_s=30.0) as grader:
        first = int(grader(Path("pid"), 1)["pid"])
        os.kill(first, signal.SIGKILL)  # between two studies
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert int(grader(Path("pid"), 1)["pid"]) != first
        with pytest.raises(KilledError, match="killed in the middle"):
            grader(Path("killed"), 1)
        assert grader(Path("sound"), 7) == {"result.json": b"7"}


def test_networks_that_cannot_be_loaded_again_are_no_fault_of_a_study(graded_by_name, tmp_path):
    hindrance = tmp_path / "hindrance"
    with Grader(partial(graded_by_name.load_unless, hindrance), longest_s=30.0) as grader:
        hindrance.touch()
        with pytest.raises(Voco2dError, match="crashed"):
            grader(Path("crash"), 1)
        with pytest.raises(NotReadyError, match=r"^the networks can't be loaded again: MemoryError$"):
            grader(Path("sound"), 7)
        hindrance.unlink()
        assert grader(Path("sound"), 7) == {"result.json": b"7"}


def test_verbose_tells_where_grading_failed_and_no_words(graded_by_name, capfd):
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    try:
        with Grader(graded_by_name.load, longest_s=30.0) as grader, pytest.raises(RuntimeError):
            grader(Path("odd"), 1)
    finally:
        root.setLevel(before)
    told = capfd.readouterr().err
    assert "graded_by_name.py" in told
    assert "MEIER" not in told


def test_what_is_no_exception_ends_the_process_and_tells_where_and_no_words(graded_by_name, capfd):
    with Grader(graded_by_name.load, longest_s=30.0) as grader:
        with pytest.raises(Voco2dError, match="crashed"):
            grader(Path("panic"), 1)
        assert grader(Path("sound"), 7) == {"result.json": b"7"}
    with pytest.raises(Voco2dError, match="ended while it loaded"):
        Grader(graded_by_name.panic, longest_s=0.0)
    told = capfd.readouterr().err
    assert told.count("graded_by_name.py") == 2
    assert told.count("PanicError") >= 2
    assert "MEIER" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_program_that_a_study_started_ends_with_the_study_that_overran(graded_by_name, tmp_path):
    with Grader(graded_by_name.load, longest_s=2.0) as grader, pytest.raises(Voco2dError, match="took longer"):
        grader(tmp_path / "start", 1)
    program = int((tmp_path / "start").read_text())
    _until(lambda: not _lives(program))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it")
def test_no_process_stays_when_the_node_is_killed_while_a_study_holds_the_interpreter(tmp_path):
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, Path(__file__).parent / "graded_by_name.py", told]) as node:
        _until(lambda: told.exists() and told.read_text())
        node.kill()
    _until(lambda: not _lives(int(told.read_text())))


def _until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 60
        time.sleep(0.02)


def _lives(pid):
    """Whether a process is there and did not end already, waiting for somebody to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
