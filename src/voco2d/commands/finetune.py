"""`voco2d finetune`: train the classifier on labels."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from voco2d.commands.continuing import base_config, begun_with, own_file
from voco2d.config import resolve
from voco2d.data.cohort_folder import CohortFolder
from voco2d.data.cohort_folds import read_folds
from voco2d.data.cohort_parts import read_splits
from voco2d.errors import ConfigError, UsageError
from voco2d.inference.report import report_run
from voco2d.store.volume_store import VolumeStore
from voco2d.training.assignment import FOLDS_NAME, LABELS_NAME, SPLITS_NAME
from voco2d.training.finetune import FinetuneArgs, finetune
from voco2d.training.finetune_args import PRESETS


def run(options: argparse.Namespace) -> int:
    """Fine-tune all folds, or the one of `--fold`, then write the run's page."""
    cohort = None if options.cohort is None else CohortFolder.read(options.cohort)
    words = [*_cohort_overrides(options, cohort), *options.overrides]
    args = resolve(FinetuneArgs, base_config(options), words, PRESETS)
    if cohort is not None and args.folds != cohort.count:
        raise ConfigError(f"folds={args.folds}: {options.cohort} has {cohort.count} folds; leave folds out")
    begun = begun_with(options)
    finetune(
        options.store,
        _labels_path(options, cohort),
        _init(options, begun),
        options.out,
        args,
        resume=options.resume,
        folds=_folds(options, cohort),
        splits=_splits(options, cohort),
        slice_labels=_table(options.slice_labels, begun.get("slice_labels")),
        slice_organs=_table(options.slice_organs, begun.get("slice_organs")),
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


def _init(options: argparse.Namespace, begun: Mapping[str, str]) -> str:
    init = options.init or begun.get("init")
    if init is None:
        raise UsageError(
            "--init: missing; say where the backbone starts: a pretraining run or weights, imagenet, random"
        )
    return str(init)


def _folds(options: argparse.Namespace, cohort: CohortFolder | None) -> pd.Series | None:
    """Return the cohort's folds, or those of the run to be continued; None where they are still to be made."""
    if cohort is not None:
        return cohort.folds
    own = own_file(options, FOLDS_NAME)
    return None if own is None or options.splits is not None else read_folds(own)


def _splits(options: argparse.Namespace, cohort: CohortFolder | None) -> dict[str, str] | None:
    path = options.splits or (own_file(options, SPLITS_NAME) if cohort is None else None)
    return None if path is None else read_splits(path)


def _table(given: Path | None, begun: str | None) -> Path | None:
    return given if given is not None or begun is None else Path(begun)


def _labels_path(options: argparse.Namespace, cohort: CohortFolder | None) -> Path:
    if options.labels is not None:
        return Path(options.labels)
    if cohort is not None and cohort.labels is not None and cohort.labels.is_file():
        return cohort.labels
    own = own_file(options, LABELS_NAME)
    if own is not None:
        return own
    stored = VolumeStore(options.store).labels
    if stored is None:
        raise UsageError(f"{options.store}: the store has no labels.csv; give --labels CSV, as RSNA's train.csv")
    return stored
