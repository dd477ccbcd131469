"""What the process of a grader loads in `test_grader.py`: an answer that does what its folder is called."""

import os
import threading
from pathlib import Path

from voco2d.errors import ReadError, Voco2dError


def answer(folder: Path, version: int) -> dict[str, bytes]:
    if folder.name == "hang":
        threading.Event().wait()
    if folder.name == "crash":
        os._exit(9)
    if folder.name == "fail":
        raise ReadError(folder, "shows no body")
    return {"result.json": str(version).encode()}


def load():
    return answer


def refuse():
    raise Voco2dError("no weights")
