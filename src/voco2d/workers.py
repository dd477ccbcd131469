"""Many processes, few jobs in flight: bounded memory, prompt stopping, no orphans. Imports nothing heavy."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from voco2d.errors import Voco2dError

Job = TypeVar("Job")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 2


def available_cores() -> int:
    """Cores this process may use; a container or scheduler may have taken some away."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Generator[tuple[Job, Result], None, None]:
    """Yield each job with its result, as they finish.

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
    try:
        yield from _run_in_pool(function, iter(jobs), workers)
    except BrokenProcessPool as error:
        raise Voco2dError(
            f"a worker process died, most often for lack of memory; go on with fewer than {workers} workers "
            '(workers=1 needs the least; a script that calls this needs an `if __name__ == "__main__":` guard)'
        ) from error


def _run_in_pool(
    function: Callable[[Job], Result], jobs: Iterator[Job], workers: int
) -> Generator[tuple[Job, Result], None, None]:
    # Spawned, not forked: forking a process that has threads (BLAS, torch) can hang the child.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=_begin_worker)
    pending: dict[Future[Result], Job] = {}
    try:
        for job in islice(jobs, _IN_FLIGHT_PER_WORKER * workers):
            pending[pool.submit(function, job)] = job
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                finished = pending.pop(future)
                result = future.result()
                for job in islice(jobs, 1):
                    pending[pool.submit(function, job)] = job
                yield finished, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    # One process a core already: BLAS threads on top would only fight. NumPy is not loaded yet in this process.
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; the job in hand is finished
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this process once its parent is gone: a killed parent can't, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
