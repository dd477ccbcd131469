import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from voco2d.errors import UsageError, Voco2dError
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.cluster import run_on_cluster
from voco2d.store.cluster_connection import check_cluster, check_workers, connect
from voco2d.workers import Lost

pytest.importorskip("distributed")

SOURCE = """
import os, signal, time
from pathlib import Path

def odd_job(job):
    number, folder = job
    if number == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 101:
        time.sleep(60)
    if number == 102:
        marker = Path(folder, "died")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return number * number
"""


@pytest.fixture
def odd_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, str]], int]:
    """Square small numbers, and do what a bad decoder may do with others; in a module that other processes find."""
    (tmp_path / "cluster_jobs.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "cluster_jobs", raising=False)
    job: Callable[[tuple[int, str]], int] = importlib.import_module("cluster_jobs").odd_job
    return job


@pytest.fixture
def client(odd_job: object) -> Iterator[Any]:
    assert odd_job
    for name in ("distributed.nanny", "distributed.worker", "distributed.scheduler", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with connect("local:2") as client:
        yield client


@pytest.fixture(scope="module")
def idle_client() -> Iterator[Any]:
    """A cluster whose workers nobody kills."""
    with warnings.catch_warnings(action="ignore"), connect("local:1") as client:
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lost_workers_cost_their_jobs_a_retry(
    client: Any, odd_job: Callable[[tuple[int, str]], int], tmp_path: Path
) -> None:
    jobs = [(number, str(tmp_path)) for number in (1, 102, 2, 101, 3, 4, 5)]
    results = {job[0]: result for job, result in run_on_cluster(client, odd_job, jobs, seconds=5.0)}
    assert results.pop(101) == Lost("took longer than 5 s", alone=False, too_long=True)
    assert results == {number: number * number for number in (1, 102, 2, 3, 4, 5)}
    lost = dict(run_on_cluster(client, odd_job, [(100, ""), (6, "")], alone=True))
    assert lost == {(100, ""): Lost("the reader crashed on it", alone=True), (6, ""): 36}


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_lost_all_workers_is_not_waited_for_without_end(
    client: Any, odd_job: Callable[[tuple[int, str]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voco2d.store.cluster._SECONDS_WITHOUT_WORKERS", 0)
    monkeypatch.setattr("voco2d.store.cluster._SECONDS_BETWEEN_LOOKS", 0.1)
    client.retire_workers()
    with pytest.raises(Voco2dError, match="no worker for 0 s; start some and run the same command again"):
        list(run_on_cluster(client, odd_job, [(1, "")]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cluster_gives_the_same_store_and_tells_its_progress_alone(
    source: Path,
    tmp_path: Path,
    args: PrepareArgs,
    snapshot: Callable[[Path], dict[str, bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare([source], tmp_path / "here", args)
    with caplog.at_level(logging.INFO):
        summary = prepare([source], tmp_path / "there", PrepareArgs(preprocess=args.preprocess, dask="local:2"))
    assert summary.prepared == 4
    assert "preparing volumes 5/5" in caplog.text
    assert {record.name.partition(".")[0] for record in caplog.records} == {"voco2d"}
    assert snapshot(tmp_path / "there") == snapshot(tmp_path / "here")


@pytest.mark.filterwarnings("ignore")
def test_paths_that_workers_do_not_see_are_named(idle_client: Any, tmp_path: Path) -> None:
    check_workers(idle_client, [tmp_path])
    with pytest.raises(UsageError, match="nowhere: a dask worker can't see it"):
        check_workers(idle_client, [tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://127.0.0.1:9", "no scheduler answers there"),
        ("somewhere", "not the address of a scheduler"),
        ("tcp://127.0.0.1:99999", "not the address of a scheduler"),
        ("carrier-pigeon://coop:1", "not the address of a scheduler"),
        ("local:many", "local:N"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.setattr("voco2d.store.cluster_connection._SECONDS_TO_ANSWER", 0)
    monkeypatch.setattr("voco2d.store.build.discover", lambda *_: pytest.fail("looked for scans first"))
    with pytest.raises(UsageError, match=told):
        prepare([source], tmp_path / "store", PrepareArgs(dask=address))
    assert not (tmp_path / "store").exists()


@pytest.mark.filterwarnings("ignore")
def test_dask_tells_nothing_but_errors(idle_client: Any) -> None:
    assert idle_client
    assert logging.getLogger("distributed").level == logging.ERROR


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_there_is_looked_at_first(idle_client: Any, tmp_path: Path) -> None:
    check_cluster(idle_client.scheduler.address, [tmp_path])
    with pytest.raises(UsageError, match="nowhere: a dask worker can't see it"):
        check_cluster(idle_client.scheduler.address, [tmp_path / "nowhere"])


@pytest.mark.parametrize("address", ["local:many", "local:0"])
def test_a_wrong_number_of_workers(address: str) -> None:
    with pytest.raises(UsageError, match="local:N"), connect(address):
        pass


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r'pip install "voco2d\[dask\]"'), connect("tcp://host:8786"):
        pass
