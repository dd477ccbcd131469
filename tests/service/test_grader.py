"""A study that hangs, crashes or fails costs itself and not those after it."""

import time
from importlib import import_module
from pathlib import Path

import pytest

from voco2d.errors import ReadError, Voco2dError
from voco2d.service.grader import Grader

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
        assert grader(Path("sound"), 8) == {"result.json": b"8"}


def test_what_cannot_be_loaded_is_told_at_the_start(graded_by_name):
    with pytest.raises(Voco2dError, match="no weights"):
        Grader(graded_by_name.refuse, longest_s=0.0)
