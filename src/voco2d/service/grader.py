"""Grades studies in a process of its own, so that one that takes too long or breaks a decoder ends that alone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from voco2d.errors import Voco2dError
from voco2d.memory import freeze_loaded

Answer = Callable[[Path, int], dict[str, bytes]]
"""Folder of a study's images and their version → file name → content."""

Load = Callable[[], Answer]
"""Loads the networks; crosses process boundaries, so it is a module-level function or a partial of one."""

_loaded: list[Answer] = []
"""Of a grader's process: what it loaded."""


class Grader:
    """Answers one study at a time; use it as a context manager.

    Args:
        load: Called in the process, and again in the one that takes its place.
        longest_s: Seconds that a study may take, without the loading; 0 sets no end to it.

    Raises:
        Voco2dError: The networks can't be loaded; as `load` says it.
    """

    def __init__(self, load: Load, longest_s: float) -> None:
        self._load, self._longest_s = load, longest_s
        context: Any = multiprocessing.get_context("spawn")  # forking a process that has threads can hang the child
        self._pool: Any = ProcessPool(max_workers=1, initializer=_begin, context=context)
        try:
            self._make_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, folder: Path, version: int) -> dict[str, bytes]:
        """Grade the study in a folder.

        Raises:
            Voco2dError: It took too long, or it ended the process.
            Exception: Whatever grading raises.
        """
        try:
            written: dict[str, bytes] = self._run(_answer, folder, version, seconds=self._longest_s)
        except TimeoutError:
            self._make_ready()
            raise Voco2dError(f"took longer than {self._longest_s:g} s") from None
        except ProcessExpired:
            self._make_ready()
            raise Voco2dError("the reader crashed on it") from None
        return written

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._pool.stop()
        self._pool.join()

    def _make_ready(self) -> None:
        try:
            self._run(_load_once, self._load)
        except ProcessExpired as error:
            raise Voco2dError("the process that grades ended while it loaded the networks") from error

    def _run(self, function: Callable[..., Any], *words: object, seconds: float = 0.0) -> Any:
        future: Future[Any] = self._pool.schedule(function, args=words, timeout=seconds or None)
        return future.result()


def _begin() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # both may be sent to the parent's children too, which it ends
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load_once(load: Load) -> None:
    _loaded[:] = [load()]
    freeze_loaded()


def _answer(folder: Path, version: int) -> dict[str, bytes]:
    return _loaded[0](folder, version)
