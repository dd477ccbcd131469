"""What the process of a grader loads in `test_grader.py`: an answer that does what its folder is called."""

import os
import re
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

from voco2d.errors import ReadError, Voco2dError
from voco2d.service.grader import Grader


class OddError(Exception):
    """Can't be read by another process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class PanicError(BaseException):
    """As libraries written in Rust raise it."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def answer(folder: Path, version: int, is_rest: bool) -> dict[str, bytes]:
    if folder.name == "hang":
        threading.Event().wait()
    if folder.name == "start":  # a program that is still there when the study overruns
        folder.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        threading.Event().wait()
    if folder.name == "panic":
        raise PanicError("MEI", "ER")  # in two pieces: a traceback quotes this line
    if folder.name == "crash":
        os._exit(9)
    if folder.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if folder.name == "odd":
        raise OddError("MEI", "ER")  # in two pieces: a traceback quotes this line
    if folder.name == "pid":
        return {"pid": str(os.getpid()).encode()}
    if folder.name == "rest":
        return {"rest": str(is_rest).encode()}
    if folder.name == "fail":
        raise ReadError(folder, "shows no body")
    return {"result.json": str(version).encode()}


def load():
    return answer


def refuse():
    raise Voco2dError("no weights")


def panic():
    raise PanicError("MEI", "ER")


def load_unless(hindrance: Path):
    """Load where nothing hinders."""
    if hindrance.exists():
        raise MemoryError
    return answer


def _hold(told: Path, _folder: Path, _version: int, _is_rest: bool) -> dict[str, bytes]:
    """Hold the interpreter, so that no other thread of the process gets to do anything."""
    told.write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 40 + "b")
    raise AssertionError


def load_holding(told: Path):
    return partial(_hold, told)


if __name__ == "__main__":
    from graded_by_name import load_holding as by_name  # the other process knows no `__main__`

    with Grader(partial(by_name, Path(sys.argv[1])), 0.0) as grader:
        grader(Path("study"), 1)
