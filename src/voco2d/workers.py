"""Many processes, few jobs in flight: bounded memory, prompt stopping, no orphans. Imports nothing heavy."""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from voco2d.errors import Voco2dError
from voco2d.logs import start_logging

Job = TypeVar("Job")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2

_FRUITLESS_POOLS = 3
_PR_SET_PDEATHSIG = 1
"""Of Linux's `prctl`: which signal a process gets when its parent ends."""


@dataclass(frozen=True)
class Lost:
    """Stands for the result of a job that has none.

    Args:
        reason: Why, in a few words.
        alone: Whether it was the only job under way, so that no other one can be to blame.
        too_long: Whether it ran into its time limit; otherwise its process died.
    """

    reason: str
    alone: bool
    too_long: bool = False


def available_cores() -> int:
    """Cores this process may use; a container or scheduler may have taken some away."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Generator[tuple[Job, Result], None, None]:
    """Yield each job with its result, as they finish; a lost job ends it.

    Args:
        function: A module-level function; with more than one worker it runs in spawned processes.
        jobs: Taken one by one: at most two a worker are in flight.
        workers: Number of processes; 1 does the work in this one.

    Raises:
        Voco2dError: A worker died.
    """
    if workers == 1:
        for job in jobs:
            yield job, function(job)
        return
    for job, result in run_isolated(function, jobs, workers):
        if isinstance(result, Lost):
            raise Voco2dError(
                f"a worker process died, most often for lack of memory; go on with fewer than {workers} workers"
            )
        yield job, result


def run_isolated(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, seconds: float = 0.0
) -> Generator[tuple[Job, Result | Lost], None, None]:
    """Yield each job with its result, as they finish; one that kills its process or takes too long costs itself only.

    Args:
        function: A module-level function, run in spawned processes, also where there is only one.
        jobs: Taken one by one: at most two a worker are in flight.
        workers: Number of processes.
        seconds: Longest time a job may take, 0 for any.

    Raises:
        Voco2dError: Processes can't be started at all.
    """
    _try_to_spawn()
    waiting = iter(jobs)
    fruitless = 0
    while True:
        again: list[Job] = []
        finished = 0
        for job, result in _run_in_pool(function, waiting, workers, seconds, again):
            finished += 1
            yield job, result
        if not again:
            return
        # The pool gave up: its processes died between two jobs. A new one takes what was under way.
        fruitless = 0 if finished else fruitless + 1
        if fruitless == _FRUITLESS_POOLS:
            raise _cannot_start()
        waiting = _chain(again, waiting)


def _run_in_pool(
    function: Callable[[Job], Result], jobs: Iterator[Job], workers: int, seconds: float, again: list[Job]
) -> Generator[tuple[Job, Result | Lost], None, None]:
    """Run until all is done or the pool breaks; the jobs that were under way then are added to `again`."""
    # Spawned, not forked: forking a process that has threads (BLAS, torch) can hang the child.
    context: Any = multiprocessing.get_context("spawn")
    tells_more = logging.getLogger().isEnabledFor(logging.DEBUG)
    pool: Any = ProcessPool(max_workers=workers, initializer=_begin_worker, initargs=(tells_more,), context=context)
    pending: dict[Future[Result], Job] = {}

    def submit(job: Job) -> None:
        pending[pool.schedule(function, args=(job,), timeout=seconds or None)] = job

    try:
        for job in islice(jobs, IN_FLIGHT_PER_WORKER * workers):
            submit(job)
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                job = pending.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    again += [job, *pending.values()]
                    return
                result = _result(future, seconds, alone=workers == 1)
                for following in islice(jobs, 1):
                    submit(following)
                yield job, result
    finally:
        pool.stop()
        pool.join()


def _result(future: Future[Result], seconds: float, alone: bool) -> Result | Lost:
    error = future.exception()
    if isinstance(error, ProcessExpired):
        return Lost("the reader crashed on it", alone)
    if seconds and isinstance(error, TimeoutError) and error.args[:1] == ("Task timeout",):
        return Lost(f"took longer than {seconds:g} s", alone, too_long=True)
    return future.result()


def _chain(first: Iterable[Job], second: Iterator[Job]) -> Iterator[Job]:
    # not itertools.chain: each further pool would nest one more
    waiting = deque(first)
    while waiting:
        yield waiting.popleft()
    yield from second


def _try_to_spawn() -> None:
    """Start one process that does nothing, where starting it runs a script of the user's again.

    Raises:
        Voco2dError: It failed, most often for want of a guard in that script.
    """
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is not None or getattr(main, "__file__", None) is None:
        return
    process = multiprocessing.get_context("spawn").Process(target=_nothing)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise _cannot_start()


def _cannot_start() -> Voco2dError:
    return Voco2dError(
        "worker processes can't be started, for lack of memory or because a script that calls this has no "
        '`if __name__ == "__main__":` guard; add the guard or go on with fewer workers'
    )


def _nothing() -> None:
    """Serve as the work of a process that is only to show that it starts."""


def _begin_worker(tells_more: bool) -> None:
    # One process a core already: BLAS threads on top would only fight. NumPy is not loaded yet in this process.
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, which then ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # at once, also inside a decoder; a half-written file is harmless
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if tells_more:
        start_logging(verbose=True)


def end_with_parent() -> None:
    """Have this spawned process end once its parent is gone, on Linux also while a library holds the interpreter.

    The kernel goes by the thread that started the process: that thread has to last as long as the process may.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this process once its parent is gone: a killed parent can't, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
