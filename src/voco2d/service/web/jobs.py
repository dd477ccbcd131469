"""The queue of jobs and their results, in SQLite or PostgreSQL; it outlives crashes at any moment."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import JSON, Column, Engine, Float, Integer, MetaData, String, Table, create_engine, event, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy import update as update_of
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError, SQLAlchemyError

from voco2d.errors import ConfigError, StoreError, UsageError
from voco2d.evaluation.tables import ASSESSED

State = Literal["waiting", "running", "done", "failed"]

STATES: Final[tuple[State, ...]] = ("waiting", "running", "done", "failed")
MOST_ATTEMPTS: Final = 3
"""How often a job may end the worker before it is given up."""

_METADATA: Final = MetaData()
_JOBS: Final = Table(
    "voco2d_jobs",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("created", Float(53), nullable=False, index=True),
    Column("finished", Float(53)),
    Column("attempts", Integer, nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("reason", String(2000), nullable=False),
    Column("result", JSON),
)
_OWNER: Final = Table(
    "voco2d_owner", _METADATA, Column("row", Integer, primary_key=True), Column("id", String(32), nullable=False)
)


@dataclass(frozen=True)
class Job:
    """One upload and what became of it.

    Args:
        id: 32 hexadecimal digits, drawn at random.
        state: `running` until the end is known: after a crash it is begun again.
        created: Seconds since 1970.
        finished: Seconds since 1970, or None.
        attempts: How often it was begun.
        progress: 0 to 1.
        stage: What is being done, two or three words.
        reason: Why it failed, or empty.
        result: Of a job that is done, see `voco2d.service.web.grading`.
    """

    id: str
    state: State
    created: float
    finished: float | None
    attempts: int
    progress: float
    stage: str
    reason: str
    result: Mapping[str, Any] | None = None


class Jobs:
    """Jobs by id. Each change is in the database before the call returns.

    Args:
        url: Of the database, as SQLAlchemy writes it.
        now: Seconds since 1970.

    Raises:
        ConfigError: The URL is none, or its driver is missing.
        StoreError: The database can't be reached, or holds something else.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        self._now = now
        try:
            # errors must not quote parameters: those of results hold identifiers
            self._engine: Engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            advice = "give for example postgresql+psycopg://USER@HOST/NAME; its driver comes with voco2d[postgres]"
            raise ConfigError(f"no such database ({type(error).__name__}); {advice}") from error
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _durable)
        try:
            _METADATA.create_all(self._engine)
            self.counts()
        except SQLAlchemyError as error:  # its words hold the URL, and with it a password
            problem = "can't be reached" if isinstance(error, OperationalError) else "can't be used"
            raise StoreError(f"the database {problem} ({type(error).__name__}); look at its URL and log") from None

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def claim(self, owner: str) -> None:
        """Note whose jobs these are: their files lie in one folder, so that nobody else could grade them.

        Args:
            owner: Id of a service, at most 32 characters.

        Raises:
            UsageError: They are another service's.
        """
        try:
            with self._engine.begin() as database:
                database.execute(_OWNER.insert().values(row=1, id=owner))
        except IntegrityError:
            with self._engine.connect() as database:
                known = database.execute(select(_OWNER.c.id)).scalar()
            if known != owner:
                advice = "give this one another --database, or empty its tables voco2d_jobs and voco2d_owner"
                raise UsageError(f"the database is that of a service with another --state; {advice}") from None

    def add(self, job_id: str) -> None:
        """Put a job at the end of the queue."""
        values = {"created": self._now(), "attempts": 0, "progress": 0.0, "stage": "waiting", "reason": ""}
        with self._engine.begin() as database:
            database.execute(_JOBS.insert().values(id=job_id, state="waiting", **values))

    def take(self) -> Job | None:
        """Take the job that has waited longest; None where none waits. For one worker only."""
        waiting = select(_JOBS.c.id).where(_JOBS.c.state == "waiting").order_by(_JOBS.c.created, _JOBS.c.id).limit(1)
        running = {"state": "running", "attempts": _JOBS.c.attempts + 1, "progress": 0.0, "stage": "begun"}
        taking = update_of(_JOBS).where(_JOBS.c.id == waiting.scalar_subquery()).values(running)
        with self._engine.begin() as database:
            job_id = database.execute(taking.returning(_JOBS.c.id)).scalar()
        return None if job_id is None else self.get(job_id)

    def recover(self, counts: bool = True) -> int:
        """Put what was left running back into the queue, or give it up; return how many. For a worker's start.

        Args:
            counts: Whether the attempt that was ended counts; not where the database ended it.
        """
        left = _JOBS.c.state == "running"
        given_up = {"state": "failed", "finished": self._now(), "reason": f"ended the worker {MOST_ATTEMPTS} times"}
        with self._engine.begin() as database:
            if not counts:
                database.execute(update_of(_JOBS).where(left).values(attempts=_JOBS.c.attempts - 1))
            worn = update_of(_JOBS).where(left, _JOBS.c.attempts >= MOST_ATTEMPTS).values(given_up)
            again = update_of(_JOBS).where(left).values(state="waiting", stage="waiting", progress=0.0)
            return database.execute(worn).rowcount + database.execute(again).rowcount

    def put_back(self, job_id: str) -> bool:
        """Queue a job again that was stopped on purpose, which doesn't count as an attempt; return whether it ran."""
        again = {"state": "waiting", "stage": "waiting", "progress": 0.0, "attempts": _JOBS.c.attempts - 1}
        running = (_JOBS.c.id == job_id) & (_JOBS.c.state == "running")
        with self._engine.begin() as database:
            return bool(database.execute(update_of(_JOBS).where(running).values(again)).rowcount)

    def advance(self, job_id: str, progress: float, stage: str) -> bool:
        """Note how far a job is; return whether it is still there."""
        return self._change(job_id, progress=progress, stage=stage)

    def finish(self, job_id: str, result: Mapping[str, Any]) -> bool:
        """Note a result; return whether the job was still there."""
        stage = (
            "done" if any(study.get("status") == ASSESSED for study in result.get("studies", ())) else "not assessed"
        )
        return self._change(job_id, state="done", finished=self._now(), progress=1.0, stage=stage, result=dict(result))

    def fail(self, job_id: str, reason: str) -> bool:
        """Note why there is no result; return whether the job was still there."""
        return self._change(job_id, state="failed", finished=self._now(), stage="failed", reason=reason[:2000])

    def get(self, job_id: str) -> Job | None:
        """Return a job with its result, or None."""
        with self._engine.connect() as database:
            row = database.execute(select(_JOBS).where(_JOBS.c.id == job_id)).one_or_none()
        return None if row is None else Job(**row._asdict())

    def newest(self, limit: int, offset: int = 0) -> list[Job]:
        """Return jobs without their results, the newest first."""
        columns = [column for column in _JOBS.c if column.name != "result"]
        query = select(*columns).order_by(_JOBS.c.created.desc(), _JOBS.c.id).limit(limit).offset(offset)
        with self._engine.connect() as database:
            return [Job(**row._asdict()) for row in database.execute(query)]

    def counts(self) -> dict[State, int]:
        """Count jobs by their state."""
        query = select(_JOBS.c.state, func.count()).group_by(_JOBS.c.state)
        with self._engine.connect() as database:
            found: dict[str, int] = {row[0]: row[1] for row in database.execute(query)}
        return {state: found.get(state, 0) for state in STATES}

    def ids(self, state: State | None = None) -> set[str]:
        """Return the ids of all jobs, or of those in a state."""
        query = select(_JOBS.c.id)
        with self._engine.connect() as database:
            return set(database.execute(query if state is None else query.where(_JOBS.c.state == state)).scalars())

    def delete(self, job_id: str) -> bool:
        """Forget a job; return whether it was there."""
        with self._engine.begin() as database:
            return bool(database.execute(delete_from(_JOBS).where(_JOBS.c.id == job_id)).rowcount)

    def older(self, keep_s: float) -> list[str]:
        """Return jobs that ended longer ago."""
        with self._engine.connect() as database:
            query = select(_JOBS.c.id).where(_JOBS.c.finished <= self._now() - keep_s)
            return list(database.execute(query).scalars())

    def _change(self, job_id: str, **values: Any) -> bool:
        with self._engine.begin() as database:
            return bool(database.execute(update_of(_JOBS).where(_JOBS.c.id == job_id).values(values)).rowcount)


def _durable(connection: Any, _: object) -> None:
    """Let readers and a writer of two processes not wait for each other, and wait where they must."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
