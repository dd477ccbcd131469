"""`voco2d finetune`: train the classifier on labels."""

import argparse
from pathlib import Path

from voco2d.commands.continuing import base_config
from voco2d.config import resolve
from voco2d.data.cohort_folder import CohortFolder
from voco2d.data.cohort_parts import read_splits
from voco2d.errors import ConfigError, UsageError
from voco2d.inference.report import report_run
from voco2d.store.volume_store import VolumeStore
from voco2d.training.finetune import FinetuneArgs, finetune
from voco2d.training.finetune_args import PRESETS


def run(options: argparse.Namespace) -> int:
    """Fine-tune all folds, or the one of `--fold`, then write the run's page."""
    cohort = None if options.cohort is None else CohortFolder.read(options.cohort)
    words = [*_cohort_overrides(options, cohort), *options.overrides]
    args = resolve(FinetuneArgs, base_config(options), words, PRESETS)
    if cohort is not None and args.folds != cohort.count:
        raise ConfigError(f"folds={args.folds}: {options.cohort} has {cohort.count} folds; leave folds out")
    labels = _labels_path(options, cohort)
    folds = None if cohort is None else cohort.folds
    splits = None if options.splits is None else read_splits(options.splits)
    finetune(
        options.store,
        labels,
        options.init,
        options.out,
        args,
        resume=options.resume,
        folds=folds,
        splits=splits,
        slice_labels=options.slice_labels,
        slice_organs=options.slice_organs,
    )
    table = options.out / "oof_predictions.csv"
    print(f"out-of-fold predictions: {table}; report: {report_run(options.out)}")
    return 0


def _cohort_overrides(options: argparse.Namespace, cohort: CohortFolder | None) -> list[str]:
    """Say in the words of the configuration what the cohort decides; the user's own words come after it."""
    if cohort is None:
        if options.fold is not None:
            raise UsageError(f"--fold {options.fold}: needs --cohort DIR, made by `voco2d cohort`")
        return []
    if options.fold is None:
        return [f"folds={cohort.count}"]
    cohort.check_fold(options.fold)
    return [f"folds={cohort.count}", f"fold={options.fold}"]


def _labels_path(options: argparse.Namespace, cohort: CohortFolder | None) -> Path:
    if options.labels is not None:
        return Path(options.labels)
    if cohort is not None and cohort.labels is not None and cohort.labels.is_file():
        return cohort.labels
    stored = VolumeStore(options.store).labels
    if stored is None:
        raise UsageError(f"{options.store}: the store has no labels.csv; give --labels CSV, as RSNA's train.csv")
    return stored
