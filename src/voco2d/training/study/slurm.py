"""Scripts that run a study on a SLURM cluster: an array a stage, each after the one before, then the tables."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from voco2d.training.run_dir import write_text
from voco2d.training.study.args import StudyArgs
from voco2d.training.study.jobs import stages, study_jobs

JOB_SCRIPT = "job.sbatch"
SUBMIT_SCRIPT = "submit.sh"


def write_slurm(args: StudyArgs, out: Path, command: Sequence[str]) -> Path:
    """Write `job.sbatch` and `submit.sh` into the study's folder.

    Args:
        args: The study.
        out: Its folder, which all machines see at the same path, as they do the folder of the call.
        command: The words that run the study, without `--job`, `--tables` and the like.

    Returns:
        The script to run on the login node, once and again until nothing is left.
    """
    out.mkdir(parents=True, exist_ok=True)
    here, log = shlex.quote(str(out.absolute())), shlex.quote(f"{out.absolute()}/slurm-%A_%a.log")
    line = shlex.join(command)
    options = [f"#SBATCH {option}" for option in (*args.slurm.options, f"--output={log}")]
    # paths of the configuration and of words are relative to the folder of the call, not to the one of the scripts
    job = ["#!/bin/bash", *options, "set -euo pipefail", f"cd {shlex.quote(str(Path.cwd()))}", *args.slurm.setup]
    job += ['if [ "$1" = tables ]; then', f"  {line}", "else", f'  {line} --job "$SLURM_ARRAY_TASK_ID"', "fi"]
    write_text(out / JOB_SCRIPT, "\n".join(job) + "\n")
    submit = ["#!/bin/bash", "# Submits a job array a stage; jobs that are done end at once.", "set -euo pipefail"]
    submit += [f"cd {here}", "after="]
    first = 0
    for stage in stages(study_jobs(args)):
        array = f"--array={first}-{first + len(stage) - 1}"
        submit.append(f"id=$(sbatch --parsable ${{after:+--dependency=afterany:$after}} {array} {JOB_SCRIPT} job)")
        submit.append("after=${id%%;*}")
        first += len(stage)
    submit.append(f"sbatch ${{after:+--dependency=afterany:$after}} {JOB_SCRIPT} tables")
    write_text(out / SUBMIT_SCRIPT, "\n".join(submit) + "\n")
    (out / SUBMIT_SCRIPT).chmod(0o755)
    return out / SUBMIT_SCRIPT
