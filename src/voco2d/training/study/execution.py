"""Where the jobs of a study run: in this process, in processes of this machine, on a dask cluster, or one at a time."""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from voco2d.errors import UsageError, Voco2dError
from voco2d.progress import Progress
from voco2d.store.cluster import run_on_cluster
from voco2d.store.cluster_connection import check_workers, connect
from voco2d.training.study.args import StudyArgs
from voco2d.training.study.jobs import COHORT, Job, is_done, stages, study_jobs
from voco2d.training.study.work import Failure, Task, do
from voco2d.workers import Lost, run_isolated

Outcomes = Generator[tuple[Task, Failure | Lost | None], None, None]

_log = logging.getLogger(__name__)


def run_study(args: StudyArgs, out: Path, processes: int = 1, dask: str | None = None) -> None:
    """Do every job that isn't done, stage by stage; a job that fails doesn't stop those that don't need it.

    Args:
        args: The study.
        out: Its folder.
        processes: Processes of one thread each; 1 works in this process.
        dask: Address of a cluster whose workers do the work instead.

    Raises:
        UsageError: The folder holds jobs of other settings, or the cluster can't be used.
        Voco2dError: Jobs failed; the first reason is told.
    """
    jobs = study_jobs(args)
    done = {job.name for job in jobs if is_done(out, job)}
    failures: list[Failure] = []
    # in this process jobs show progress of their own
    with Progress("jobs of the study", len(jobs), done=len(done), shown=processes > 1 or dask is not None) as progress:
        for stage in stages(jobs):
            blocked = {failure.job for failure in failures}
            todo = [job for job in stage if job.name not in done and blocked.isdisjoint(job.needs)]
            tasks = [Task(job, args, out, processes) for job in todo]
            with closing(_outcomes(tasks, out, processes, dask)) as outcomes:
                for task, outcome in outcomes:
                    progress.advance(note=task.job.name)
                    failures += _failures(task, outcome)
            _log.info("%d jobs done, %d failed", len(todo), len(failures))
    if failures:
        first = failures[0]
        raise Voco2dError(
            f"{len(failures)} of {len(jobs)} jobs failed, the first is {first.job}: {first.reason} (the same command "
            "tries again what isn't done)"
        )


def run_job(args: StudyArgs, out: Path, number: int) -> Job:
    """Do one job, as a task of a SLURM array does.

    Args:
        args: The study.
        out: Its folder.
        number: Of the job in `study_jobs`, from 0.

    Raises:
        UsageError: There is no such job, or one it needs isn't done.
        Voco2dError: It failed.
    """
    jobs = study_jobs(args)
    if not 0 <= number < len(jobs):
        raise UsageError(f"--job {number}: the study has jobs 0 to {len(jobs) - 1}")
    job = jobs[number]
    for place, needed in enumerate(jobs):
        if needed.name in job.needs and not is_done(out, needed):
            raise UsageError(f"--job {number}: needs job {place} ({needed.name}), which isn't done; run that before")
    failure = do(Task(job, args, out))
    if failure is not None:
        raise Voco2dError(f"{failure.job}: {failure.reason}")
    return job


def _outcomes(tasks: Sequence[Task], out: Path, processes: int, dask: str | None) -> Outcomes:
    """Yield each task with what became of it; the cohort's own processes do its work, so it runs here."""
    here = [task for task in tasks if (processes == 1 and dask is None) or task.job.kind == COHORT]
    for task in here:
        yield task, do(task)
    others = [task for task in tasks if task not in here]
    if not others:
        return
    if dask is None:
        yield from run_isolated(do, others, min(processes, len(others)))
        return
    with connect(dask) as client:
        check_workers(client, [out])
        yield from run_on_cluster(client, do, others)


def _failures(task: Task, outcome: Failure | Lost | None) -> list[Failure]:
    if isinstance(outcome, Lost):
        return [Failure(task.job.name, f"{outcome.reason}, most often for lack of memory; use fewer processes")]
    return [] if outcome is None else [outcome]
