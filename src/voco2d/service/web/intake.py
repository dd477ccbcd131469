"""Turns uploads into jobs, and forgets them; what is accepted is on the disk before anyone is told so."""

import secrets
import shutil
from typing import IO

from voco2d.errors import UsageError
from voco2d.file_lock import hold
from voco2d.service.web.args import ServeArgs
from voco2d.service.web.jobs import Job, Jobs
from voco2d.service.web.unpack import Upload, UploadRefusedError, unpack
from voco2d.service.web.worker import SCAN


class Intake:
    """Owns the folders of a service; one process at a time.

    Args:
        args: Of the service; its folders are made.
        jobs: The queue.

    Raises:
        UsageError: Another process serves from the folder, or the jobs belong to another folder.
    """

    def __init__(self, args: ServeArgs, jobs: Jobs) -> None:
        self._args, self._jobs = args, jobs
        self._lock = lock_state(args)
        try:
            jobs.claim(_service_id(args))
        except UsageError:
            self._lock.close()
            raise
        for left in (*args.incoming.iterdir(), *(one for one in args.jobs.iterdir() if one.name not in jobs.ids())):
            shutil.rmtree(left, ignore_errors=True)  # of uploads that a crash cut short: nobody was told of a job

    def close(self) -> None:
        """Let another process serve."""
        self._lock.close()

    def accept(self, upload: Upload) -> tuple[Job, int]:
        """Unpack an upload and queue it.

        Args:
            upload: See `voco2d.service.web.unpack.unpack`.

        Returns:
            The job, and how many files of the upload were left out.

        Raises:
            UploadRefusedError: It is no scan or beyond a limit, or the queue is full.
        """
        if self._jobs.counts()["waiting"] >= self._args.most_waiting:
            raise UploadRefusedError(f"{self._args.most_waiting} jobs wait already; try again later", 503)
        job_id = secrets.token_hex(16)
        part, folder = self._args.incoming / job_id, self._args.jobs / job_id
        try:
            (part / SCAN).mkdir(parents=True)
            left_out = unpack(upload, part / SCAN, self._args.limits)
            part.replace(folder)
            self._jobs.add(job_id)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        job = self._jobs.get(job_id)
        assert job is not None, "a job that was just added"
        return job, left_out

    def delete(self, job_id: str) -> bool:
        """Forget a job and all its files; return whether it was there."""
        known = self._jobs.delete(job_id)
        if known:
            shutil.rmtree(self._args.jobs / job_id, ignore_errors=True)
        return known


def _service_id(args: ServeArgs) -> str:
    """Return the id of a service, drawn at its first start; its folder is locked."""
    path = args.state / "service.id"
    if not path.is_file():
        part = path.with_suffix(".part")
        part.write_text(secrets.token_hex(16), encoding="ascii")
        part.replace(path)
    return path.read_text(encoding="ascii", errors="replace").strip()[:32]


def lock_state(args: ServeArgs) -> IO[str]:
    """Make the folders of a service, for their owner alone, and hold them until the file is closed.

    Raises:
        UsageError: Another process does, or they can't be made.
    """
    try:
        args.state.mkdir(parents=True, exist_ok=True)
        args.state.chmod(0o700)
        for folder in (args.incoming, args.jobs):
            folder.mkdir(exist_ok=True)
        refusal = f"{args.state}: another service uses it; stop that, or choose another --state"
        return hold(args.state / "serve.lock", refusal)
    except OSError as error:
        raise UsageError(f"{args.state}: can't be used ({error.strerror}); choose another --state") from error
