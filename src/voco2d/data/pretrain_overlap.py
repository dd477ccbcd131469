"""Refuses pretraining that has seen, or will see, patients a classifier is validated on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from voco2d.data.cohort import patient_digests
from voco2d.errors import CheckpointError, LabelError


def seen_digests(metadata: Mapping[str, object], checkpoint: Path | str) -> list[str]:
    """Return the digests of the patients that a checkpoint has seen.

    Args:
        metadata: Of the checkpoint.
        checkpoint: What error messages call it.

    Raises:
        CheckpointError: It doesn't say.
    """
    seen = metadata.get("patients_seen")
    if not isinstance(seen, list):
        raise CheckpointError(
            f"{checkpoint}: doesn't say which patients it has seen; give a CSV with their patient_id column instead"
        )
    return [str(digest) for digest in seen]


def overlap_counts(folds: pd.Series, digests: Iterable[str]) -> dict[int, int]:
    """Count the validation patients of each fold that pretraining sees, fold → patients.

    Args:
        folds: Fold by `patient_id`.
        digests: `patient_digests` of the patients pretraining sees.
    """
    seen = set(digests)
    return {
        int(str(fold)): len(seen.intersection(patient_digests(map(str, patients.index))))
        for fold, patients in folds.groupby(folds)
    }


def refuse_overlap(folds: pd.Series, digests: Iterable[str], validated: Sequence[int], source: Path | str) -> None:
    """Refuse when pretraining sees a patient of a fold that is validated on.

    Args:
        folds: Fold by `patient_id`.
        digests: `patient_digests` of the patients pretraining sees.
        validated: The folds that are validated on.
        source: What error messages call the list or the checkpoint.

    Raises:
        LabelError: With the number of patients and the folds, and which folds could be validated on instead.
    """
    counts = overlap_counts(folds, digests)
    hit = {fold: counts[fold] for fold in validated if counts.get(fold)}
    if not hit:
        return
    total = sum(hit.values())
    by_fold = ", ".join(f"{count} of fold {fold}" for fold, count in hit.items())
    free = [str(fold) for fold, count in counts.items() if not count]
    instead = (
        f"validate on fold {' or '.join(free)} alone (--fold with --cohort; without, run_folds=1 does fold 0), "
        if free
        else ""
    )
    raise LabelError(
        f"{source}: pretraining sees {total} patients that are validated on ({by_fold}), so scores would be too good; "
        f"{instead}or pretrain with `--cohort DIR --fold K`, which keeps the patients of fold K out"
    )
