"""`voco2d pretrain`: 2D-VoCo on a store."""

import argparse
import logging
from pathlib import Path

from voco2d.commands.continuing import base_config
from voco2d.commands.tables import patient_ids
from voco2d.config import resolve
from voco2d.data.cohort import join_labels, make_folds, read_labels
from voco2d.data.cohort_folder import CohortFolder
from voco2d.data.pretrain_overlap import refuse_overlap, seen_digests
from voco2d.errors import LabelError, UsageError
from voco2d.inference.report import report_run
from voco2d.models.checkpoint import backbone_state, newest_weights
from voco2d.store.volume_store import VolumeStore
from voco2d.target_block import read_targets
from voco2d.training.initialisation import IMAGENET, RANDOM
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain
from voco2d.training.processes import is_first

_log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Pretrain, then write the run's page."""
    args = resolve(PretrainArgs, base_config(options, "voco2d"), options.overrides, PRESETS)
    exclude = {*_excluded(options), *_held_out(options, args.seed), *_outside_cohort(options, args)}
    run_folder = pretrain(options.store, options.out, args, resume=options.resume, exclude_patients=exclude)
    if not is_first():
        return 0
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
    targets = read_targets(options.targets)
    cohort = join_labels(VolumeStore(options.store).index, read_labels(options.hold_out, targets), targets)
    folds = make_folds(cohort.labels, options.folds, seed, targets)
    return [str(patient) for patient in folds.index[folds == 0]]


def _outside_cohort(options: argparse.Namespace, args: PretrainArgs) -> set[str]:
    """Return the patients of the store that `--cohort` and `--fold` don't allow; a start must keep to that too."""
    if options.cohort is None:
        if options.fold is not None:
            raise UsageError(f"--fold {options.fold}: needs --cohort DIR, made by `voco2d cohort`")
        return set()
    if options.fold is None or options.hold_out is not None:
        raise UsageError("--cohort: name the fold to be validated on with --fold K, and leave --hold-out out")
    cohort = CohortFolder.read(options.cohort)
    allowed = set(cohort.patients_for_pretraining(options.fold))
    stored = set(VolumeStore(options.store).index["patient_id"].astype(str))
    if not stored & allowed:
        raise LabelError(f"{options.cohort}: none of its patients for fold {options.fold} is in the store")
    unknown = len(stored - allowed - set(cohort.folds.index))
    if unknown:
        _log.warning("%d patients of the store are not in %s and are left out", unknown, options.cohort)
    if args.init not in (RANDOM, IMAGENET) and not (options.resume and options.out.is_dir()):
        seen = seen_digests(backbone_state(Path(args.init), args.backbone)[1], args.init)
        refuse_overlap(cohort.folds, seen, [options.fold], args.init)
    return stored - allowed
