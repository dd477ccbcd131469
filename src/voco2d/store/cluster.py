"""The same jobs on a dask cluster: as many in flight as it has room for, lost workers made up for."""

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

from voco2d.errors import UsageError, Voco2dError
from voco2d.store.location import Location
from voco2d.version import VERSION
from voco2d.workers import IN_FLIGHT_PER_WORKER, Lost

Job = TypeVar("Job")
Result = TypeVar("Result")

_LOCAL = "local"
_LOCAL_WORKERS = 2
_SECONDS_TO_CONNECT = 30


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a cluster.

    Args:
        address: Of a dask scheduler, for example `tcp://host:8786`; `local` or `local:N` starts a cluster of 2 or N
            worker processes on this machine, to try things out.

    Yields:
        A `distributed.Client`.

    Raises:
        UsageError: dask is not installed, or there is no such cluster.
    """
    try:
        dask: Any = import_module("distributed")
    except ImportError as error:
        raise UsageError('--dask needs a further package; install it with pip install "voco2d[dask]"') from error
    if address.partition(":")[0] == _LOCAL:
        workers = _worker_count(address)
        options: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with dask.LocalCluster(n_workers=workers, **options) as cluster, dask.Client(cluster) as client:
            yield client
        return
    try:
        client = dask.Client(address, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise UsageError(f"--dask {address}: no scheduler answers there; start one with `dask scheduler`") from error
    with client:
        yield client


def check_workers(client: Any, paths: Sequence[Location]) -> None:
    """Make sure that there are workers, that they have this version, and that they see the paths.

    Raises:
        UsageError: Something of that fails.
    """
    try:
        client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
    except TimeoutError as error:
        raise UsageError("the dask cluster has no worker; start some with `dask worker ADDRESS`") from error
    try:
        answers = client.run(_look, list(paths))
    except ImportError as error:
        raise UsageError(f"the dask workers have no voco2d; install version {VERSION} there") from error
    for version, missing in answers.values():
        if version != VERSION:
            raise UsageError(f"a dask worker has voco2d {version}, this is {VERSION}; install the same everywhere")
        if missing:
            raise UsageError(
                f"{missing[0]}: a dask worker can't see it; use a file system that all machines share, at the same "
                "path, or a URL for the store"
            )


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
        client: As `connect` gives it.
        function: A module-level function.
        jobs: Taken one by one: at most two a thread of the cluster are in flight.
        seconds: Longest time a job may take, 0 for any.
        alone: Only one job at a time, so that a death is surely its own fault.

    Raises:
        Voco2dError: The cluster is gone.
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
            future = next(finished)
            job = pending.pop(future)
            result = _outcome(client, future, seconds, alone)
            fill()
            yield job, result
    finally:
        client.cancel(list(pending), force=True)


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
        client.restart_workers([result.worker], timeout=_SECONDS_TO_CONNECT, raise_for_error=False)
        return Lost(f"took longer than {seconds:g} s", alone, too_long=True)
    return result


def _within(function: Callable[[Any], Any], seconds: float, job: Any) -> Any:
    """Run on a worker: do the job, or give it up when it takes too long."""
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


def _look(paths: Sequence[Location]) -> tuple[str, list[str]]:
    """Run on a worker: its version, and which of the paths it can't see."""
    return VERSION, [str(path) for path in paths if not path.exists()]


def _room(client: Any) -> int:
    threads: int = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    return IN_FLIGHT_PER_WORKER * max(threads, 1)


def _worker_count(address: str) -> int:
    text = address.partition(":")[2] or str(_LOCAL_WORKERS)
    if not text.isdecimal() or not 1 <= int(text) <= (os.cpu_count() or 1) * 4:
        raise UsageError(f"--dask {address}: write local, or local:N with a few workers, for example local:2")
    return int(text)
