"""Grades jobs one after the other with networks that are loaded once."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import OperationalError

from voco2d.inference.outcome import failure_reason
from voco2d.inference.predictor import Predictor
from voco2d.logs import wordless
from voco2d.service.audit import Audit, digest_of
from voco2d.service.web.evidence import Explain
from voco2d.service.web.grading import NothingToGradeError, grade_upload
from voco2d.service.web.jobs import Job, Jobs

SCAN: Final = "scan"
RESULT: Final = "result"
_PART: Final = "result.part"
_CLEAN_EVERY_S: Final = 600.0
_MOST_TRIES: Final = 3
_TRY_AGAIN_S: Final = 5.0

_log = logging.getLogger(__name__)


class Stopped(BaseException):
    """The worker is to end now; raised by a signal in the middle of anything."""


class _DeletedError(Exception):
    """The job that is being graded was deleted."""


class Worker:
    """Takes the oldest waiting job, grades it, and writes its result before it counts as done.

    After a job, what was uploaded is deleted: only what the page shows stays.

    Args:
        jobs: The queue.
        folder: Holds one folder a job.
        predictor: Loaded once.
        explain: See `voco2d.service.web.evidence`, or None.
        audit: Where ends are noted.
        keep_s: Seconds that finished jobs are kept; 0 keeps them.
        clock: Seconds that never go backwards.
        limit: Is entered while a job is graded, to end what takes too long.
    """

    def __init__(
        self,
        jobs: Jobs,
        folder: Path,
        predictor: Predictor,
        explain: Explain | None,
        audit: Audit,
        keep_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        limit: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._jobs, self._folder, self._predictor, self._explain = jobs, folder, predictor, explain
        self._audit, self._keep_s, self._clock, self._limit = audit, keep_s, clock, limit
        self._cleaned = float("-inf")

    def tidy(self) -> None:
        """Delete the uploads that a crash kept after their result was there; for a start."""
        for folder in self._folder.iterdir():
            job = self._jobs.get(folder.name)
            if job is not None and job.state == "done":
                shutil.rmtree(folder / SCAN, ignore_errors=True)

    def give_up(self, reason: str) -> None:
        """Let what is called running have failed; for a start, after such a job ended the process."""
        for job_id in self._jobs.ids("running"):
            self._fail(job_id, reason)

    def step(self) -> bool:
        """Grade one job; return whether there was one."""
        self._forget_old()
        job = self._jobs.take()
        if job is None:
            return False
        begun = self._clock()
        try:
            with self._limit():
                self._grade(job)
        except Stopped:
            self._jobs.put_back(job.id)
            raise
        except _DeletedError:
            self._audit.note("deleted while graded", "", job.id)
        except NothingToGradeError as error:
            self._fail(job.id, str(error))
        except OperationalError:  # the database is away or locked: no fault of the upload; see `process.py`
            raise
        except Exception as error:  # whatever an upload holds, the others must still be graded
            _log.warning("job %s failed\n%s", digest_of(job.id), wordless(error))
            self._fail(job.id, failure_reason(error))
        else:
            self._audit.note("graded", "", job.id, seconds=round(self._clock() - begun))
        if self._jobs.get(job.id) is None:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)
        return True

    def _grade(self, job: Job) -> None:
        folder = self._folder / job.id

        def advance(progress: float, stage: str) -> None:
            if not self._jobs.advance(job.id, round(progress, 3), stage):
                raise _DeletedError

        shutil.rmtree(folder / _PART, ignore_errors=True)  # of an attempt that a crash ended
        shutil.rmtree(folder / RESULT, ignore_errors=True)
        result = grade_upload(self._predictor, self._explain, folder / SCAN, folder / _PART, advance)
        (folder / _PART).replace(folder / RESULT)
        if not self._finish(job.id, result):
            raise _DeletedError
        shutil.rmtree(folder / SCAN, ignore_errors=True)

    def _finish(self, job_id: str, result: Mapping[str, Any]) -> bool:
        """Note a result, which took long to make: a database that is away or locked is asked again."""
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                return self._jobs.finish(job_id, result)
            except OperationalError as error:
                if not tries_left:
                    raise
                _log.warning("the result of job %s can't be noted (%s)", digest_of(job_id), type(error).__name__)
                time.sleep(_TRY_AGAIN_S)
        raise AssertionError("unreachable")

    def _fail(self, job_id: str, reason: str) -> None:
        self._jobs.fail(job_id, reason)
        self._audit.note("failed", "", job_id)
        shutil.rmtree(self._folder / job_id, ignore_errors=True)

    def _forget_old(self) -> None:
        """Delete what is older than it should become, now and then."""
        if not self._keep_s or self._clock() - self._cleaned < _CLEAN_EVERY_S:
            return
        self._cleaned = self._clock()
        for job_id in self._jobs.older(self._keep_s):
            self._jobs.delete(job_id)
            shutil.rmtree(self._folder / job_id, ignore_errors=True)
            self._audit.note("deleted by age", "", job_id)
