"""Who is in which part of a fine-tuning: folds that are made or given, or a fixed split; and who was pretrained on."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from voco2d.data.cohort import Cohort, join_labels, make_folds, saw_patients
from voco2d.data.cohort_folds import adopt_folds
from voco2d.data.cohort_parts import Part, fold_parts, join_splits, split_part
from voco2d.data.pretrain_overlap import refuse_overlap
from voco2d.errors import ConfigError, LabelError
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.initialisation import Initialisation

FOLDS_NAME = "folds.csv"
SPLITS_NAME = "splits.csv"
LABELS_NAME = "labels.csv"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """The patients of a run.

    Args:
        cohort: Their series and labels.
        parts: The models that are trained now.
        held_out: Patient → number of the part that validates on them, over all parts of the run.
        tables: What the run folder says of it, file name → text.
    """

    cohort: Cohort
    parts: Sequence[Part]
    held_out: Mapping[str, int]
    tables: Mapping[str, str]


def assign(
    args: FinetuneArgs,
    index: pd.DataFrame,
    labels: pd.DataFrame,
    folds: pd.Series | None = None,
    splits: Mapping[str, str] | None = None,
) -> Assignment:
    """Join a store to labels and say who is in which part.

    Args:
        args: Folds, fraction, seed.
        index: `VolumeStore.index`.
        labels: As `read_labels` returns.
        folds: Fold by patient; made here when neither these nor `splits` are given.
        splits: Patient → `train`, `validation` or `test`.

    Raises:
        ConfigError: Both are given, or there can't be so many folds.
        LabelError: The tables don't fit together.
    """
    if splits is not None:
        if folds is not None or args.fold is not None or args.run_folds is not None:
            raise ConfigError("splits: one model on a fixed split has no folds; leave folds, fold and run_folds out")
        return _assign_splits(args, index, labels, splits)
    cohort = join_labels(index, labels, args.target_set)
    if folds is None:
        used = make_folds(cohort.labels, args.folds, args.seed, args.target_set)
    else:
        used = adopt_folds(folds, cohort.labels, "the cohort's folds")
    numbers = range(args.run_folds or args.folds) if args.fold is None else [args.fold]
    return Assignment(
        cohort=cohort,
        parts=fold_parts(used, cohort.labels, numbers, args.fraction, args.seed, args.target_set),
        held_out={str(patient): int(number) for patient, number in used.items()},
        tables={FOLDS_NAME: used.reset_index().to_csv(index=False), LABELS_NAME: cohort.labels.to_csv(index=False)},
    )


def _assign_splits(
    args: FinetuneArgs, index: pd.DataFrame, labels: pd.DataFrame, splits: Mapping[str, str]
) -> Assignment:
    cohort, kept = join_splits(index, labels, splits, args.target_set)
    part = split_part(kept, cohort.labels, args.fraction, args.seed, args.target_set)
    rows = [(patient, split, int(split != "train" or patient in part.train)) for patient, split in sorted(kept.items())]
    table = pd.DataFrame(rows, columns=["patient_id", "split", "used"])
    return Assignment(
        cohort=cohort,
        parts=[part],
        held_out=dict.fromkeys(sorted(part.held_out), part.number),
        tables={SPLITS_NAME: table.to_csv(index=False), LABELS_NAME: cohort.labels.to_csv(index=False)},
    )


def refuse_seen(start: Initialisation, parts: Sequence[Part], transductive: bool) -> None:
    """Refuse a start that is known to have seen patients who are validated or tested on, unless that is wanted.

    Raises:
        LabelError: With their number, by fold, and the ways out.
    """
    if transductive:
        return
    numbers = {patient: part.number for part in parts for patient in part.held_out | part.test}
    seen = start.metadata.get("patients_seen")
    try:
        refuse_overlap(
            pd.Series(numbers, dtype="int64"),
            seen if isinstance(seen, list) else [],
            [part.number for part in parts],
            start.origin,
        )
    except LabelError as error:
        raise LabelError(f"{error}; or set transductive=true, and every table will say so") from error


def is_transductive(start: Initialisation, graded: Iterable[str]) -> bool | None:
    """Tell, and warn, whether the backbone has seen patients it is graded on; None where it can't be known."""
    if not start.is_checkpoint:
        return False
    seen = saw_patients(start.metadata, graded)
    if seen is None:
        _log.warning("%s doesn't say which patients it has seen; validation patients may be among them", start.origin)
    elif seen:
        _log.warning(
            "%s has seen validation patients, so scores are transductive; pretrain with --exclude to keep them out",
            start.origin,
        )
    return seen
