"""`voco2d finetune`: train the classifier on labels."""

import argparse

from voco2d.config import resolve
from voco2d.inference.report import report_run
from voco2d.training.finetune import FinetuneArgs, finetune


def run(options: argparse.Namespace) -> int:
    """Fine-tune all folds, then write the run's page."""
    args = resolve(FinetuneArgs, options.config, options.overrides)
    finetune(options.store, options.labels, options.init, options.out, args, resume=options.resume)
    table = options.out / "oof_predictions.csv"
    print(f"out-of-fold predictions: {table}; report: {report_run(options.out)}")
    return 0
