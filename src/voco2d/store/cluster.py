"""The same jobs on a dask cluster: as many in flight as it has room for, lost workers made up for."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

from voco2d.errors import Voco2dError
from voco2d.workers import IN_FLIGHT_PER_WORKER, Lost

Job = TypeVar("Job")
Result = TypeVar("Result")

_SECONDS_TO_RESTART = 300
_SECONDS_WITHOUT_WORKERS = 300
_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_TO_NAP = 0.05
_SECONDS_TO_SETTLE = 3.0
"""dask's nanny never restarts a worker that dies before the nanny has taken notice of its start."""


def run_on_cluster(
    client: Any,
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    seconds: float = 0.0,
    alone: bool = False,
) -> Generator[tuple[Job, Result | Lost], None, None]:
    """Yield each job with its result, as they finish.

    A job whose worker dies is given to another one, a few times; after that it is lost. A job that takes too long is
    lost and its worker restarted, since what it runs can't be stopped otherwise.

    Args:
        client: As `cluster_connection.connect` gives it.
        function: A module-level function.
        jobs: Taken one by one: at most two a thread of the cluster are in flight.
        seconds: Longest time a job may take, 0 for any.
        alone: Only one job at a time, so that a death is surely its own fault.

    Raises:
        Voco2dError: The cluster is gone, or has been without any worker for minutes.
    """
    dask: Any = import_module("distributed")
    waiting = iter(jobs)
    pending: dict[Any, Job] = {}
    finished = dask.as_completed([], raise_errors=False)

    def fill() -> None:
        room = (1 if alone else _room(client)) - len(pending)
        for job in islice(waiting, max(room, 0)):
            # pure=False: dask would otherwise answer for two equal jobs with one result
            future = client.submit(_within, function, seconds, job, pure=False)
            pending[future] = job
            finished.add(future)

    try:
        fill()
        while pending:
            _await(client, finished)
            future = next(finished)
            job = pending.pop(future)
            result = _outcome(client, future, seconds, alone)
            fill()
            yield job, result
    finally:
        client.cancel(list(pending), force=True)


def _await(client: Any, finished: Any) -> None:
    """Wait until some job has ended; dask waits for workers to come back for ever.

    Raises:
        Voco2dError: There has been no worker for a long time.
    """
    staffed = looked = time.monotonic()
    while not finished.has_ready():
        time.sleep(_SECONDS_TO_NAP)
        now = time.monotonic()
        if now - looked < _SECONDS_BETWEEN_LOOKS:
            continue
        looked = now
        if client.status != "running" or _threads(client):
            staffed = now
        elif now - staffed > _SECONDS_WITHOUT_WORKERS:
            reason = f"the dask cluster has had no worker for {_SECONDS_WITHOUT_WORKERS} s"
            raise Voco2dError(f"{reason}; start some and run the same command again, it goes on where it was")


@dataclass(frozen=True)
class _Overdue:
    """A job that took too long on the worker of this address."""

    worker: str


def _outcome(client: Any, future: Any, seconds: float, alone: bool) -> Any:
    from distributed import KilledWorker

    if future.cancelled():
        raise Voco2dError("the dask cluster is gone; start it and run the same command again, it goes on where it was")
    try:
        result = future.result()
    except KilledWorker:
        return Lost("the reader crashed on it", alone)
    if isinstance(result, _Overdue):
        client.restart_workers([result.worker], timeout=_SECONDS_TO_RESTART, raise_for_error=False)
        return Lost(f"took longer than {seconds:g} s", alone, too_long=True)
    return result


def _within(function: Callable[[Any], Any], seconds: float, job: Any) -> Any:
    """Run on a worker: do the job, or give it up when it takes too long."""
    time.sleep(max(0.0, _first_use() + _SECONDS_TO_SETTLE - time.monotonic()))
    if not seconds:
        return function(job)
    from distributed import get_worker

    answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put((function(job), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = answer.get(timeout=seconds)
    except queue.Empty:
        return _Overdue(get_worker().address)
    if error is not None:
        raise error
    return result


@cache
def _first_use() -> float:
    """When the first job came to this process."""
    return time.monotonic()


def _room(client: Any) -> int:
    return IN_FLIGHT_PER_WORKER * max(_threads(client), 1)


def _threads(client: Any) -> int:
    return sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
