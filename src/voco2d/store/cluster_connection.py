"""Connecting to a dask cluster, and making sure that its workers can do the work."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from voco2d.errors import UsageError
from voco2d.store.location import Location
from voco2d.version import VERSION

_LOCAL = "local"
_LOCAL_WORKERS = 2
_SCHEMES = ("tcp", "tls", "ws", "wss")
SECONDS_TO_CONNECT = 30
"""Longest wait for an answer of a scheduler or worker."""

_SECONDS_TO_ANSWER = 10
_SECONDS_TO_CLOSE = 60
_NEVER = "3650 days"
_SECONDS_BETWEEN_TRIES = 0.5


def check_cluster(address: str, paths: Sequence[Location]) -> None:
    """Make sure, before any other work, that a cluster can be used; of a `local` one only that it can be started.

    Args:
        address: As `connect` takes it.
        paths: What its workers must see.

    Raises:
        UsageError: As `connect` and `check_workers`.
    """
    _import_dask()
    if _is_local(address):
        _worker_count(address)
        return
    with connect(address) as client:
        check_workers(client, paths)


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
    dask = _import_dask()
    if _is_local(address):
        workers = _worker_count(address)
        options: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
        options["silence_logs"] = logging.ERROR
        # some time after a worker's death LocalCluster gives its place up for good, if it is just being started again
        settings = import_module("dask").config.set({"distributed.deploy.lost-worker-timeout": _NEVER})
        with settings, _local_cluster(dask, n_workers=workers, **options) as client:
            yield client
        return
    _await_answer(address)
    try:
        client = dask.Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise UsageError(f"--dask {address}: no scheduler answers there; start one with `dask scheduler`") from error
    with client:
        yield client


@contextmanager
def _local_cluster(dask: Any, **options: Any) -> Iterator[Any]:
    """Start a cluster here; yields its client, and closes it in bounded time."""
    cluster = dask.LocalCluster(**options)
    try:
        with dask.Client(cluster) as client:
            yield client
    finally:
        # a worker that died or is being started may not answer; left to itself it ends with this process
        with suppress(TimeoutError):
            cluster.close(timeout=_SECONDS_TO_CLOSE)


def check_workers(client: Any, paths: Sequence[Location]) -> int:
    """Make sure that there are workers, that they have this version, and that they see the paths.

    Returns:
        How many there are.

    Raises:
        UsageError: Something of that fails.
    """
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
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
    return len(answers)


def _import_dask() -> Any:
    """Import dask and quieten it: importing sets its loggers to tell of every connection."""
    try:
        dask = import_module("distributed")
    except ImportError as error:
        raise UsageError('--dask needs a further package; install it with pip install "voco2d[dask]"') from error
    for name in ("distributed", "distributed.client", "distributed.gc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return dask


def _await_answer(address: str) -> None:
    """Wait until something listens at an address; dask's client does so too, but leaves noise behind when it gives up.

    Raises:
        UsageError: It is no address, the host is not known, or nothing listens there.
    """
    place = _host_and_port(address)
    deadline = time.monotonic() + _SECONDS_TO_ANSWER
    while True:
        try:
            socket.create_connection(place, timeout=_SECONDS_TO_ANSWER).close()
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                reason = f"no scheduler answers there ({error.strerror or error})"
                raise UsageError(f"--dask {address}: {reason}; start one with `dask scheduler`") from error
            time.sleep(_SECONDS_BETWEEN_TRIES)
        else:
            return


def _host_and_port(address: str) -> tuple[str, int]:
    addressing: Any = import_module("distributed.comm.addressing")
    try:
        scheme, _ = addressing.parse_address(address)
        host, port = addressing.get_address_host_port(address)
    except ValueError:
        scheme, host, port = "", "", 0
    if scheme not in _SCHEMES or not host or not 0 < port < 2**16:
        raise UsageError(f"--dask {address}: not the address of a scheduler; give one as tcp://host:8786, or local:N")
    return host, port


def _look(paths: Sequence[Location]) -> tuple[str, list[str]]:
    """Run on a worker: its version, and which of the paths it can't see."""
    return VERSION, [str(path) for path in paths if not path.exists()]


def _is_local(address: str) -> bool:
    return address.partition(":")[0] == _LOCAL


def _worker_count(address: str) -> int:
    text = address.partition(":")[2] or str(_LOCAL_WORKERS)
    if not text.isdecimal() or not 1 <= int(text) <= (os.cpu_count() or 1) * 4:
        raise UsageError(f"--dask {address}: write local, or local:N with a few workers, for example local:2")
    return int(text)
