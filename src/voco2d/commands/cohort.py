"""`voco2d cohort`: folds of patients, and who may be pretrained on when a fold is validated."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from voco2d.commands.tables import patient_ids, write_text
from voco2d.data.cohort import join_labels, patient_digests, read_labels
from voco2d.data.cohort_folder import FOLDS_NAME, cohort_files, fold_counts, series_table
from voco2d.data.cohort_folds import adopt_folds, read_folds, stratify
from voco2d.data.pretrain_overlap import refuse_overlap, seen_digests
from voco2d.errors import UsageError
from voco2d.io.rsna_series import read_series_table
from voco2d.store.volume_store import VolumeStore
from voco2d.target_block import read_targets


def run(options: argparse.Namespace) -> int:
    """Make or adopt folds, check them against pretraining, write the folder and show the counts."""
    if options.use_folds is None and options.folds < 2:
        raise UsageError(f"--folds {options.folds}: at least 2 are needed, one of them to validate on")
    targets = read_targets(options.targets)
    store = VolumeStore(options.store)
    cohort = join_labels(store.index, read_labels(_labels_path(options), targets), targets)
    if options.use_folds is None:
        counts = cohort.series["patient_id"].value_counts()
        folds = stratify(cohort.labels, counts, options.folds, options.seed, targets)
    else:
        folds = adopt_folds(read_folds(options.use_folds), cohort.labels, str(options.use_folds))
    _check_pretraining(options, folds)
    meta = None if options.meta is None else _read_meta(options.meta)
    series = series_table(store.index, folds, meta)
    about: dict[str, Any] = {
        "store": str(options.store),
        "volumes": store.fingerprint(),
        "seed": options.seed if options.use_folds is None else None,
        "adopted_folds": None if options.use_folds is None else str(options.use_folds),
    }
    files = cohort_files(cohort, folds, series, about)
    _refuse_other_cohort(options.out, files[FOLDS_NAME])
    for name, text in files.items():
        write_text(options.out / name, text)
    _show(fold_counts(cohort, folds, series))
    print(
        f"{len(folds)} patients in {folds.nunique()} folds, {len(series)} series, {cohort.unlabelled_series} of them "
        f"without labels; {cohort.unknown_patients} labelled patients not in the store; written to {options.out}"
    )
    return 0


def _labels_path(options: argparse.Namespace) -> Path:
    if options.labels is not None:
        return Path(options.labels)
    stored = VolumeStore(options.store).labels
    if stored is None:
        raise UsageError(f"{options.store}: the store has no labels.csv; give --labels CSV, as RSNA's train.csv")
    return stored


def _read_meta(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV as RSNA's train_series_meta.csv")
    return read_series_table(path)


def _check_pretraining(options: argparse.Namespace, folds: pd.Series) -> None:
    """Refuse what pretraining sees where it is validated on: every fold, or the one of `--fold`."""
    validated = sorted(set(folds))
    if options.fold is not None:
        if options.fold not in validated:
            raise UsageError(f"--fold {options.fold}: there are folds 0…{validated[-1]}")
        validated = [options.fold]
    if options.pretrain_list is None:
        return
    source = Path(options.pretrain_list)
    is_checkpoint = source.is_dir() or source.suffix in (".safetensors", ".pt", ".pth")
    seen = _seen_by_checkpoint(source) if is_checkpoint else patient_digests(patient_ids(source))
    refuse_overlap(folds, seen, validated, source)


def _seen_by_checkpoint(path: Path) -> list[str]:
    from voco2d.models.checkpoint import backbone_state  # brings torch, which a table doesn't need

    return seen_digests(backbone_state(path)[1], path)


def _refuse_other_cohort(out: Path, folds: str) -> None:
    """Keep a cohort that runs may rely on.

    Raises:
        UsageError: `out` is a file or holds other folds.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder")
    there = out / FOLDS_NAME
    if there.is_file() and there.read_text(encoding="utf-8") != folds:
        raise UsageError(f"{out}: holds a cohort with other folds, which runs may rely on; name a new folder")


def _show(counts: pd.DataFrame) -> None:
    table = Table("", *(f"fold {name}" if name != "all" else name for name in counts["fold"]))
    for name in counts.columns.drop("fold"):
        table.add_row(name, *map(str, counts[name]))
    Console(width=30 + 12 * len(counts)).print(table)  # all folds, also where the output is no terminal
