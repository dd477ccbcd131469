"""Grades studies in a process of its own, so that one that takes too long or breaks a decoder ends that alone."""

import logging
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from voco2d.errors import Voco2dError
from voco2d.logs import start_logging, wordless
from voco2d.memory import freeze_loaded
from voco2d.service.process_group import kill_group, lead_group
from voco2d.workers import end_with_parent

_END_S: Final = 10.0
"""Seconds that a process may take to end once it has let go of its connection."""

_log = logging.getLogger(__name__)

Answer = Callable[[Path, int, bool], dict[str, bytes]]
"""Folder of a study's images, their version, whether earlier ones were deleted → file name → content."""

Load = Callable[[], Answer]
"""Loads the networks; crosses process boundaries, so it is a module-level function or a partial of one."""


class KilledError(Voco2dError):
    """The process was killed from outside while it graded: another try may come to an end."""


class NotReadyError(Voco2dError):
    """The networks can't be loaded again, which is no fault of the study's."""


class Grader:
    """Answers one study at a time; use it as a context manager, in one thread.

    The process that was killed, crashed or overran is replaced when the next study comes.

    Args:
        load: Called in the process, and again in the one that takes its place.
        longest_s: Seconds that a study may take, without the loading; 0 sets no end to it.

    Raises:
        Voco2dError: The networks can't be loaded; as `load` says it.
    """

    def __init__(self, load: Load, longest_s: float) -> None:
        self._load, self._longest_s = load, longest_s
        self._child: _Child | None = _Child(load)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, folder: Path, version: int, is_rest: bool = False) -> dict[str, bytes]:
        """Grade the study in a folder.

        Args:
            folder: Its images.
            version: How often it grew after it was answered, from 1.
            is_rest: Whether images that came earlier were deleted after their answer.

        Raises:
            KilledError: See there.
            NotReadyError: See there.
            Voco2dError: It took too long, or it ended the process.
            Exception: Whatever grading raises.
        """
        child = self._ready()
        try:
            told = child.ask((folder, version, is_rest), self._longest_s)
        except TimeoutError:
            self.close()
            raise Voco2dError(f"took longer than {self._longest_s:g} s") from None
        except (EOFError, OSError):
            code = child.exit_code()
            self.close()
            if code == -signal.SIGKILL:
                raise KilledError("the process that grades was killed in the middle of it") from None
            raise Voco2dError("the reader crashed on it") from None
        if isinstance(told, Exception):
            raise told
        written: dict[str, bytes] = told
        return written

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ready(self) -> "_Child":
        """Return a process that has loaded the networks."""
        if self._child is not None and not self._child.lives:
            _log.warning("the process that grades was ended from outside; it is started again")
            self.close()
        if self._child is None:
            try:
                self._child = _Child(self._load)
            except Exception as error:  # whatever hinders it, studies wait for the next try
                _log.debug("%s", wordless(error))
                told = str(error) if isinstance(error, Voco2dError) else type(error).__name__
                raise NotReadyError(f"the networks can't be loaded again: {told}") from None
        return self._child


class _Child:
    """A process that has loaded the networks, and the connection to it."""

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process that has threads can hang the child
        self._connection, theirs = context.Pipe()
        tells_more = logging.getLogger().isEnabledFor(logging.DEBUG)
        self._process = context.Process(target=_serve, args=(theirs, load, tells_more), name="voco2d-grader")
        try:
            self._process.start()
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
        try:
            told = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise Voco2dError("the process that grades ended while it loaded the networks") from error
        except BaseException:
            self.close()
            raise
        if told is not None:
            self.close()
            raise told

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    def ask(self, question: tuple[Path, int, bool], seconds: float) -> Any:
        """Return the answer, or the exception that is one."""
        self._connection.send(question)
        if not self._connection.poll(seconds or None):
            raise TimeoutError
        return self._connection.recv()

    def exit_code(self) -> int | None:
        """Wait until a process that let go of its connection has ended, and return how it did."""
        self._process.join(_END_S)
        return self._process.exitcode

    def close(self) -> None:
        self._process.kill()
        kill_group(self._process.pid)
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, load: Load, tells_more: bool) -> None:
    """Load, say so, and answer one study after the other until nobody asks any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both may be sent to the parent's children too, which it ends
        signal.signal(number, signal.SIG_IGN)
    lead_group()
    end_with_parent()
    start_logging(tells_more)
    try:
        _answer_all(connection, load)
    except BaseException as error:  # a library may raise one over a study; Python would print its words
        _log.error("the process that grades ended\n%s", wordless(error))
        os._exit(1)  # threads that the library left may never end


def _answer_all(connection: Connection, load: Load) -> None:
    try:
        answer = load()
    except Exception as error:
        connection.send(_as_sent(error))
        return
    freeze_loaded()
    connection.send(None)
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            return
        told: dict[str, bytes] | Exception
        try:
            told = answer(*question)
        except Exception as error:  # whatever a study holds, the others must still be answered
            told = _as_sent(error)
        connection.send(told)


def _as_sent(error: Exception) -> Exception:
    """Tell where an error came from, which does not cross with it, and make sure that it itself does."""
    _log.debug("%s", wordless(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(type(error).__name__)
    return error
