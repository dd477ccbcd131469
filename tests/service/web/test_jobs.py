"""The queue, on SQLite and on a real PostgreSQL where there is one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from voco2d.errors import ConfigError, StoreError, UsageError
from voco2d.service.web.jobs import MOST_ATTEMPTS, Jobs

IDS = ["a" * 32, "b" * 32, "c" * 32]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.integration)])
def open_jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    """Open the same queue again and again."""
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    opened: list[Jobs] = []

    def make(**options: object) -> Jobs:
        opened.append(Jobs(url, **options))
        return opened[-1]

    yield make
    with opened[0]._engine.begin() as database:
        for table in ("voco2d_jobs", "voco2d_owner"):
            database.exec_driver_sql(f"DELETE FROM {table}")
    for jobs in opened:
        jobs.close()


def test_jobs_come_out_in_the_order_they_came_in_and_outlive_a_restart(open_jobs: Callable[..., Jobs]) -> None:
    now = [100.0]
    jobs = open_jobs(now=lambda: now[0])
    assert jobs.take() is None
    for job_id in IDS:
        jobs.add(job_id)
        now[0] += 1
    first = jobs.take()
    assert first is not None
    assert (first.id, first.state, first.attempts) == (IDS[0], "running", 1)
    assert jobs.advance(IDS[0], 0.5, "grading the series")
    result = {"studies": [{"reason": "µ ≥ \u0001 🩻", "any_injury": None}], "volumes": [], "n": 0.123456}
    assert jobs.finish(IDS[0], result)

    again = open_jobs()
    done = again.get(IDS[0])
    assert done is not None
    assert (done.state, done.progress, done.result, done.created, done.finished) == ("done", 1, result, 100, 103)
    assert again.counts() == {"waiting": 2, "running": 0, "done": 1, "failed": 0}
    assert [job.id for job in again.newest(2, 1)] == [IDS[1], IDS[0]]
    assert again.newest(1, 2)[0].result is None
    assert again.older(0.0) == [IDS[0]]
    assert again.older(1e10) == []


def test_what_a_crash_left_running_is_taken_up_again_but_not_for_ever(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    jobs.add(IDS[0])
    for attempt in range(1, MOST_ATTEMPTS + 1):
        taken = jobs.take()
        assert taken is not None
        assert taken.attempts == attempt
        assert jobs.take() is None
        assert jobs.recover() == 1
    worn = jobs.get(IDS[0])
    assert worn is not None
    assert (worn.state, worn.reason) == ("failed", "ended the worker 3 times")
    assert jobs.recover() == 0


def test_a_job_that_was_stopped_on_purpose_is_not_worn(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    jobs.add(IDS[0])
    for _ in range(5):
        assert jobs.take() is not None
        assert jobs.put_back(IDS[0])
    job = jobs.get(IDS[0])
    assert job is not None
    assert (job.state, job.attempts) == ("waiting", 0)


def test_a_job_that_the_database_ended_is_not_worn(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    jobs.add(IDS[0])
    for _ in range(MOST_ATTEMPTS + 1):
        assert jobs.take() is not None
        assert jobs.recover(counts=False) == 1
    job = jobs.get(IDS[0])
    assert job is not None
    assert (job.state, job.attempts) == ("waiting", 0)
    assert jobs.recover(counts=False) == 0


def test_a_job_that_is_done_is_not_put_back(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    jobs.add(IDS[0])
    assert jobs.take() is not None
    assert jobs.finish(IDS[0], {})
    assert not jobs.put_back(IDS[0])  # the stop came after the result
    job = jobs.get(IDS[0])
    assert job is not None
    assert (job.state, job.attempts) == ("done", 1)


def test_a_database_is_that_of_one_service(open_jobs: Callable[..., Jobs]) -> None:
    open_jobs().claim("first")
    open_jobs().claim("first")
    with pytest.raises(UsageError, match="another --state"):
        open_jobs().claim("second")


def test_a_deleted_job_can_not_be_finished(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    jobs.add(IDS[0])
    jobs.take()
    assert jobs.delete(IDS[0])
    assert not jobs.delete(IDS[0])
    assert not jobs.advance(IDS[0], 0.5, "")
    assert not jobs.finish(IDS[0], {})
    assert not jobs.fail(IDS[0], "late")
    assert jobs.get(IDS[0]) is None
    assert jobs.ids() == set()


def test_a_database_that_can_not_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such database .* postgresql\+psycopg"):
        Jobs("not a url")
    with pytest.raises(ConfigError, match="no such database"):
        Jobs("nosuch://host/name")
    (tmp_path / "bad.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="can't be used"):
        Jobs(f"sqlite:///{tmp_path / 'bad.sqlite'}")
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="can't be reached") as refused:
        Jobs("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(refused.value)
