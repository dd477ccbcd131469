"""`voco2d pretrain`: 2D-VoCo on a store."""

import argparse

from voco2d.commands.tables import patient_ids
from voco2d.config import resolve
from voco2d.inference.report import report_run
from voco2d.models.checkpoint import newest_weights
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain


def run(options: argparse.Namespace) -> int:
    """Pretrain, then write the run's page."""
    args = resolve(PretrainArgs, options.config or "voco2d", options.overrides, PRESETS)
    exclude = patient_ids(options.exclude) if options.exclude else ()
    run_folder = pretrain(options.store, options.out, args, resume=options.resume, exclude_patients=exclude)
    print(f"weights: {newest_weights(run_folder)}; report: {report_run(run_folder)}")
    return 0
