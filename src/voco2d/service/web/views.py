"""What the service answers, as the OpenAPI document describes it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from voco2d.service.web.jobs import Job, State


class JobView(BaseModel):
    """A job and how far it is."""

    id: str = Field(description="32 hexadecimal digits", pattern="^[0-9a-f]{32}$")
    state: State
    progress: float = Field(ge=0, le=1)
    stage: str = Field(description="what is being done; of a job that is done, `not assessed` where no study was")
    reason: str = Field(description="why it failed, or empty")
    created: datetime
    finished: datetime | None = None

    @classmethod
    def of(cls, job: Job) -> "JobView":
        """Show a job."""
        return cls(
            id=job.id,
            state=job.state,
            progress=job.progress,
            stage=job.stage,
            reason=job.reason,
            created=_moment(job.created),
            finished=None if job.finished is None else _moment(job.finished),
        )


class NewJobView(JobView):
    """A job that was just queued."""

    left_out: int = Field(0, description="files of the upload that are no DICOM files")


class JobList(BaseModel):
    """Jobs, the newest first, and how many there are of each state."""

    jobs: list[JobView]
    counts: dict[State, int]


class ResultView(BaseModel):
    """The answer for an upload. Research use only."""

    notice: str
    studies: list[dict[str, Any]] = Field(
        description="status, reason, probabilities, intervals, any_injury and series of each study"
    )
    volumes: list[dict[str, Any]] = Field(
        description="what can be shown of each series: files; key slices, best first, and slice scores by target"
    )
    skipped: dict[str, int] = Field(description="reason to number of files that are part of no answer")
    report: dict[str, Any] = Field(description="how it came about: versions, networks, preparation, seconds")

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "ResultView":
        """Show a result."""
        return cls(**result)


class Health(BaseModel):
    """Whether the service works."""

    status: str
    worker: str = Field(description="ready, or starting while the networks are loaded")
    version: str


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
