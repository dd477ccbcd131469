"""The addresses of the service."""

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, no_type_check

from fastapi import APIRouter, Depends, File, HTTPException, Path, Query, Request, Response, Security, UploadFile
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from voco2d.service.web.args import ServeArgs
from voco2d.service.web.grading import result_files
from voco2d.service.web.intake import Intake
from voco2d.service.web.jobs import Job, Jobs
from voco2d.service.web.process import WorkerProcess
from voco2d.service.web.unpack import UploadRefusedError
from voco2d.service.web.views import Health, JobList, JobView, NewJobView, Problem, ResultView
from voco2d.service.web.worker import RESULT
from voco2d.version import VERSION

STATIC: Final = FilePath(__file__).parent / "static"
_UNPACKED_AT_ONCE: Final = 2
_MEDIA_TYPES: Final = {".gz": "application/gzip", ".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True)
class Service:
    """What the addresses work with.

    Args:
        args: Settings.
        jobs: The queue.
        intake: Takes uploads.
        worker: The process that grades, or None where another one does.
        unpacking: Is held while an upload is unpacked. Those that wait for it hold no thread: all other addresses
            answer from the same few.
    """

    args: ServeArgs
    jobs: Jobs
    intake: Intake
    worker: WorkerProcess | None = None
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_UNPACKED_AT_ONCE))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


Served = Annotated[Service, Depends(_service)]
_JOB_ID: Final = re.compile("^[0-9a-f]{32}$")
FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="name of a file, as the result tells it")]


def _job_id(
    job_id: Annotated[str, Path(description="id of a job", json_schema_extra={"pattern": _JOB_ID.pattern})],
) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise HTTPException(404, "no such job")
    return job_id


JobId = Annotated[str, Depends(_job_id)]

pages = APIRouter(include_in_schema=False)
health = APIRouter(tags=["service"], responses=_problems(413, 429))
api = APIRouter(
    prefix="/api/jobs",
    tags=["jobs"],
    dependencies=[Security(HTTPBearer(auto_error=False, description="the token that `voco2d serve` printed"))],
    responses=_problems(401, 413, 422, 429),
)


@pages.get("/")
def page() -> FileResponse:
    """Show the page to upload and look at scans."""
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


@pages.get("/docs")
def docs() -> FileResponse:
    """Show the OpenAPI document."""
    return FileResponse(STATIC / "docs.html", media_type="text/html; charset=utf-8")


@health.get("/api/health", summary="Whether the service works")
def show_health(service: Served) -> Health:
    """Tell whether the worker has loaded its networks; needs no token."""
    state = "ready" if service.worker is None else service.worker.state
    return Health(status="ok", worker=state, version=VERSION)


@api.post("", status_code=202, summary="Upload a scan", responses=_problems(400, 408, 415, 503, 507))
@no_type_check  # FastAPI hands in Starlette's upload for its own
async def create_job(
    service: Served,
    scan: Annotated[UploadFile, File(description="a zip of DICOM files, or a NIfTI file (.nii, .nii.gz)")],
) -> NewJobView:
    """Queue the series of an upload; it may hold several studies."""
    try:
        async with service.unpacking:
            job, left_out = await run_in_threadpool(service.intake.accept, scan.file)
    except UploadRefusedError as refusal:
        headers = {"Retry-After": "60"} if refusal.status == 503 else None
        raise HTTPException(refusal.status, refusal.reason, headers) from None
    return NewJobView(**JobView.of(job).model_dump(), left_out=left_out)


@api.get("", summary="List jobs")
def list_jobs(
    service: Served,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> JobList:
    """List jobs, the newest first."""
    jobs = [JobView.of(job) for job in service.jobs.newest(limit, offset)]
    return JobList(jobs=jobs, counts=service.jobs.counts())


@api.get("/{job_id}", summary="State and progress of a job", responses=_problems(404))
def show_job(job_id: JobId, service: Served) -> JobView:
    """Tell how far a job is."""
    return JobView.of(_known(service, job_id))


@api.get("/{job_id}/result", summary="Result of a job", responses=_problems(404, 409))
def show_result(job_id: JobId, service: Served) -> ResultView:
    """Return probabilities, reasons, what can be shown, and how it came about."""
    return ResultView.of(_result(_known(service, job_id)))


@api.get(
    "/{job_id}/files/{name}",
    summary="Key image, volume or overlay of a result",
    response_class=FileResponse,
    responses={**_problems(404, 409), 200: {"content": {kind: {} for kind in _MEDIA_TYPES.values()}}},
)
def show_file(job_id: JobId, name: FileName, service: Served) -> FileResponse:
    """Return a file of a result: key images are JPEG or PNG, volumes and overlays gzipped NIfTI."""
    result = _result(_known(service, job_id))
    path = service.args.jobs / job_id / RESULT / name
    if name not in result_files(result) or not path.is_file():
        raise HTTPException(404, "no such file in the result")
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix])


@api.delete("/{job_id}", status_code=204, summary="Delete a job", responses=_problems(404))
def delete_job(job_id: JobId, service: Served) -> Response:
    """Delete a job with all that was uploaded and written for it, whatever its state."""
    if not service.intake.delete(job_id):
        raise HTTPException(404, "no such job")
    return Response(status_code=204)


def _known(service: Service, job_id: str) -> Job:
    job = service.jobs.get(job_id)
    if job is None:
        raise HTTPException(404, "no such job")
    return job


def _result(job: Job) -> dict[str, Any]:
    if job.result is None:
        raise HTTPException(409, f"the job is {job.state}" + (f": {job.reason}" if job.reason else ""))
    return dict(job.result)
