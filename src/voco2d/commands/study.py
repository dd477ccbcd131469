"""`voco2d study`: arms × label fractions × seeds with significance; with `--ablation`, corrections taken back."""

import argparse
import shlex
import sys
from pathlib import Path

from voco2d.config import resolve
from voco2d.errors import UsageError
from voco2d.inference.report_ablation import write_ablation
from voco2d.inference.report_study import write_study_report
from voco2d.training.ablation import run_ablation
from voco2d.training.pretrain import PRESETS, PretrainArgs
from voco2d.training.study.args import StudyArgs
from voco2d.training.study.collect import collect
from voco2d.training.study.config import read_study
from voco2d.training.study.execution import run_job, run_study
from voco2d.training.study.slurm import write_slurm


def run(options: argparse.Namespace) -> int:
    """Run what the options ask for: the study, one of its jobs, its tables, or the ablation."""
    if options.ablation:
        _refuse_beside_ablation(options)
        return _ablation(options)
    if options.tables is not None:
        page = write_study_report(options.tables, options.overrides, options.jobs)
        print(f"table: {options.tables / 'results.csv'}; page: {page}")
        return 0
    if options.config is None or options.out is None:
        raise UsageError("study: give --config FILE and --out DIR, or --tables DIR, or STORE with --ablation")
    args = _read(options)
    if options.slurm_array:
        script = write_slurm(args, options.out, _command(options))
        print(f"written; run {script} where sbatch is")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    if options.job is not None:
        print(f"done: {run_job(args, options.out, options.job).name}")
        return 0
    run_study(args, options.out, options.jobs, options.dask)
    collect(args, options.out, shlex.join(["voco2d", *sys.argv[1:]]))
    page = write_study_report(options.out, workers=options.jobs)
    print(f"table: {options.out / 'results.csv'}; page: {page}")
    return 0


def _refuse_beside_ablation(options: argparse.Namespace) -> None:
    named = {
        "--quick": options.quick,
        "--jobs": options.jobs > 1,
        "--dask": options.dask is not None,
        "--slurm-array": options.slurm_array,
        "--job": options.job is not None,
        "--tables": options.tables is not None,
    }
    wrong = [name for name, given in named.items() if given]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: not for --ablation, whose runs come one after another; leave it out")


def _read(options: argparse.Namespace) -> StudyArgs:
    words = list(options.overrides)
    if options.store is not None:
        words.insert(0, f"cohort.store={options.store}")
    return read_study(options.config, words, options.quick)


def _command(options: argparse.Namespace) -> list[str]:
    """Return the words that run the study from any folder."""
    words = ["voco2d", "study"]
    if options.store is not None:
        words.append(str(options.store.absolute() if isinstance(options.store, Path) else options.store))
    words += ["--config", str(Path(options.config).absolute()), "--out", str(options.out.absolute())]
    return [*words, *(["--quick"] if options.quick else []), *options.overrides]


def _ablation(options: argparse.Namespace) -> int:
    if options.store is None or options.out is None:
        raise UsageError("study --ablation: give STORE and --out DIR")
    if not 0 < options.held_out < 1:
        raise UsageError(f"--held-out {options.held_out}: a share above 0 and below 1")
    args = resolve(PretrainArgs, options.config or "voco2d", options.overrides, PRESETS)
    table = run_ablation(options.store, options.out, args, range(options.seeds), options.held_out)
    page = write_ablation(table, options.out)
    print(f"{len(table)} runs; table: {options.out / 'ablation.csv'}; page: {page}")
    return 0
