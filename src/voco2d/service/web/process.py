"""The worker in a process of its own, so that a decoder's crash costs one attempt at one job and not the service."""

import fcntl
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from sqlalchemy.exc import OperationalError

from voco2d.errors import Voco2dError
from voco2d.inference.predictor import Predictor
from voco2d.logs import start_logging, wordless
from voco2d.memory import freeze_loaded
from voco2d.service.audit import Audit
from voco2d.service.process_group import kill_group, lead_group
from voco2d.service.web.args import ServeArgs
from voco2d.service.web.evidence import Explain
from voco2d.service.web.jobs import Jobs
from voco2d.service.web.worker import Stopped, Worker
from voco2d.workers import end_with_parent

AUDIT_NAME: Final = "audit.jsonl"
_LOCK_NAME: Final = "worker.lock"
_AWAY_NAME: Final = "database-away"
"""Is there from when the database ended the worker until a later one has put its job back into the queue."""
_POLL_S: Final = 0.3
_RESTART_S: Final = 2.0
_STOP_S: Final = 20.0

_log = logging.getLogger(__name__)

Load = Callable[[], tuple[Predictor, Explain | None]]
"""Loads the networks; crosses process boundaries, so it is a module-level function or a partial of one."""


class WorkerProcess:
    """Starts the worker's process, and starts it again whenever it ends by itself.

    A job that takes too long ends the process by SIGALRM, which no decoder can hold up; the next one gives it up.

    Args:
        args: Of the service.
        load: Called in the process.
    """

    def __init__(self, args: ServeArgs, load: Load) -> None:
        self._args, self._load = args, load
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        self._ready = False
        self._overran = False
        self._process: multiprocessing.process.BaseProcess | None = None
        self._watcher = threading.Thread(target=self._watch, name="worker-watcher", daemon=True)

    @property
    def state(self) -> str:
        """`ready` once the networks are loaded, else `starting`."""
        return "ready" if self._ready else "starting"

    @property
    def pid(self) -> int | None:
        """Of the process that is there now."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process and wait until it has loaded the networks.

        Raises:
            Voco2dError: What hindered it.
        """
        self._begin()
        self._watcher.start()

    def stop(self) -> None:
        """End the process; a job that it is at goes back into the queue."""
        self._stopping.set()
        with self._changing:  # none is begun from here on
            process = self._process
        if process is not None and process.is_alive():
            process.terminate()
            process.join(_STOP_S)
            process.kill()
            kill_group(process.pid)
            process.join()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        with self._changing:
            if self._stopping.is_set():
                return
            ours, theirs = context.Pipe()
            tells_more = logging.getLogger().isEnabledFor(logging.DEBUG)
            words = (self._args, self._load, theirs, self._overran, tells_more)
            process = context.Process(target=run_worker, args=words, name="voco2d-worker")
            try:
                process.start()
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self._process = process  # only once it is there: one that was never begun can't be waited for
        try:
            error = ours.recv()
        except EOFError:
            error = Voco2dError("the worker ended before it was ready; see the log above")
        finally:
            ours.close()
        if error is not None:
            process.join()
            raise error
        self._ready, self._overran = True, False

    def _watch(self) -> None:
        ended = None
        while not self._stopping.is_set():
            process = self._process
            if process is not None and process is not ended:
                process.join()
                kill_group(process.pid)  # once: its number may be another's by the time that a start succeeds
                self._overran |= process.exitcode == -signal.SIGALRM
                ended = process
            self._ready = False
            if self._stopping.wait(_RESTART_S):
                return
            _log.warning("the worker ended; it is started again")
            try:
                self._begin()
            except Voco2dError as error:
                _log.error("the worker could not be started: %s", error)
            except Exception as error:  # the next try may work
                _log.error("the worker could not be started\n%s", wordless(error))


def run_worker(args: ServeArgs, load: Load, told: Connection, overran: bool = False, tells_more: bool = False) -> None:
    """Grade until the parent is gone or a signal says so; one process a state folder does.

    What ends it otherwise is told without its words, which may hold what a result says, and begun again by the parent.

    Args:
        args: Of the service.
        load: Loads the networks.
        told: Gets None once they are loaded, or the error that hindered it.
        overran: Whether the process before was ended by a job that took too long.
        tells_more: Whether to log as `--verbose` has it.
    """
    start_logging(tells_more)
    lead_group()
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process in order
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        with _only_one(args.state / _LOCK_NAME):
            try:
                jobs = Jobs(args.database_url)
                predictor, explain = load()
            except Voco2dError as error:
                told.send(error)
                return
            freeze_loaded()
            audit = Audit(args.state / AUDIT_NAME, "job")
            limit = partial(_ended_after, args.longest_job_s)
            worker = Worker(jobs, args.jobs, predictor, explain, audit, args.keep_h * 3600, limit=limit)
            if overran:
                worker.give_up(f"took longer than {args.longest_job_s:g} s")
            away = args.state / _AWAY_NAME
            again = jobs.recover(counts=not away.exists())
            away.unlink(missing_ok=True)
            if again:
                _log.info("taken up again, since they were left unfinished: %d jobs", again)
            told.send(None)
            with _noting(away):
                worker.tidy()
                while _parent_lives():
                    if not worker.step():
                        time.sleep(_POLL_S)
    except Stopped:
        return
    except BaseException as error:  # a library may raise one that is no Exception; Python would print its words
        _log.error("the worker ended\n%s", wordless(error))
        os._exit(1)  # threads that the library left may never end


def _parent_lives() -> bool:
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


@contextmanager
def _noting(away: Path) -> Iterator[None]:
    """Leave a file where the database ends the block, which can't be told that the running job is not to blame."""
    try:
        yield
    except OperationalError:
        away.touch()
        raise


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Have this process end where the block takes longer, whatever it is in the middle of; 0 sets no limit."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(*_: object) -> None:
    raise Stopped


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock file; wait while a worker of an earlier start finishes its job."""
    with path.open("w", encoding="ascii") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not _parent_lives():
                    raise Stopped from None
                time.sleep(_POLL_S)
        yield
