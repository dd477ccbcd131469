"""Where conversions run: in this process, in processes of this machine, or on a cluster."""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from voco2d.errors import ConfigError
from voco2d.io.source import Rejection
from voco2d.store.cluster import run_on_cluster
from voco2d.store.cluster_connection import check_cluster, check_workers, connect
from voco2d.store.conversion import Job, Outcome, convert
from voco2d.store.layout import SETTINGS
from voco2d.store.location import Location, is_in_memory
from voco2d.workers import Lost, available_cores, run_isolated

_log = logging.getLogger(__name__)

Results = Generator[tuple[Job, Outcome], None, None]


def run_conversions(jobs: Sequence[Job], workers: int, seconds: float, isolate: bool, dask: str | None) -> Results:
    """Convert every job, whatever its readers do, and yield them as they finish.

    A job whose process died beside others is tried once more, alone: it may have died of their need for memory.

    Args:
        jobs: What to do.
        workers: Processes of this machine; 0 for one a core.
        seconds: Longest time a job may take, 0 for any.
        isolate: False does the work in this process.
        dask: Address of a cluster, or None.

    Raises:
        UsageError: The cluster can't be used.
        OSError: A volume or its record can't be written.
    """
    if not jobs:
        return
    root = jobs[0].root
    isolate = isolate and not is_in_memory(root)
    if dask is not None:
        with connect(dask) as client:
            workers_there = check_workers(client, [root / SETTINGS, jobs[0].source.files[0]])
            _log.info("dask: %d worker%s", workers_there, "" if workers_there == 1 else "s")
            yield from _run_on_cluster(client, jobs, seconds)
    elif isolate:
        yield from _run_here(jobs, max(1, min(workers or available_cores(), len(jobs))), seconds)
    else:
        for job in jobs:
            yield job, convert(job)


def check_execution(dask: str | None, root: Location, sources: Sequence[Path]) -> None:
    """Refuse, before any other work, a cluster that can't do it.

    Args:
        dask: Address of a cluster, or None.
        root: The store.
        sources: What is to be read.

    Raises:
        ConfigError: Memory of this process is to be filled by others.
        UsageError: There is no such cluster, or its workers don't see the sources.
    """
    if dask is None:
        return
    if is_in_memory(root):
        raise ConfigError(f"{root}: lives in the memory of this process; a cluster needs another --out")
    check_cluster(dask, [source for source in sources if source.exists()])  # others are refused when they are sought


def _run_here(jobs: Sequence[Job], workers: int, seconds: float) -> Results:
    again: list[Job] = []
    with closing(run_isolated(convert, jobs, workers, seconds)) as results:
        yield from _sorted_out(results, again)
    if again:
        with closing(run_isolated(convert, again, 1, seconds)) as results:
            yield from _sorted_out(results, [])


def _run_on_cluster(client: Any, jobs: Sequence[Job], seconds: float) -> Results:
    again: list[Job] = []
    with closing(run_on_cluster(client, convert, jobs, seconds)) as results:
        yield from _sorted_out(results, again)
    if again:
        with closing(run_on_cluster(client, convert, again, seconds, alone=True)) as results:
            yield from _sorted_out(results, [])


def _sorted_out(results: Generator[tuple[Job, Outcome | Lost], None, None], again: list[Job]) -> Results:
    """Yield results, but lay aside what may have died of something else."""
    for job, result in results:
        if not isinstance(result, Lost):
            yield job, result
        elif result.alone or result.too_long:
            yield job, Rejection(str(job.source.path), result.reason)
        else:
            again.append(job)
