"""`voco2d pretrain`: 2D-VoCo on a store."""

import argparse
import logging

from voco2d.commands.tables import patient_ids
from voco2d.config import resolve
from voco2d.data.cohort import join_labels, make_folds, read_labels
from voco2d.errors import LabelError
from voco2d.inference.report import report_run
from voco2d.models.checkpoint import newest_weights
from voco2d.store.volume_store import VolumeStore
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain

_log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Pretrain, then write the run's page."""
    args = resolve(PretrainArgs, options.config or "voco2d", options.overrides, PRESETS)
    exclude = {*_excluded(options), *_held_out(options, args.seed)}
    run_folder = pretrain(options.store, options.out, args, resume=options.resume, exclude_patients=exclude)
    print(f"weights: {newest_weights(run_folder)}; report: {report_run(run_folder)}")
    return 0


def _excluded(options: argparse.Namespace) -> list[str]:
    """Read the patients of `--exclude`; where none of them is in the store the table is surely the wrong one."""
    if options.exclude is None:
        return []
    listed = patient_ids(options.exclude)
    absent = len(set(listed) - set(VolumeStore(options.store).index["patient_id"].astype(str)))
    if listed and absent == len(listed):
        raise LabelError(f"{options.exclude}: none of its {len(listed)} patients is in the store; compare the ids")
    if absent:
        _log.warning("%s: %d of its %d patients are not in the store", options.exclude, absent, len(listed))
    return listed


def _held_out(options: argparse.Namespace, seed: int) -> list[str]:
    """Return the patients of the first fold that `finetune` makes of the labels of `--hold-out`."""
    if options.hold_out is None:
        return []
    cohort = join_labels(VolumeStore(options.store).index, read_labels(options.hold_out))
    folds = make_folds(cohort.labels, options.folds, seed)
    return [str(patient) for patient in folds.index[folds == 0]]
