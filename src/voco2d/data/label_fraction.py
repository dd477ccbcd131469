"""A part of the labelled patients: even in every class, drawn by seed, and nested in every larger part."""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from voco2d.targets import RSNA_2023, TargetSet


def labelled_part(labels: pd.DataFrame, fraction: float, seed: int, targets: TargetSet = RSNA_2023) -> pd.Index:
    """Choose the patients whose labels are used.

    Args:
        labels: One row a patient: `patient_id` and the class columns, 0 or 1.
        fraction: Share of the patients, above 0 and up to 1; rounded up to a whole patient.
        seed: Decides the draw.
        targets: Whose classes the columns are.

    Returns:
        Their ids, sorted. Those of a smaller `fraction` are among those of a larger one.
    """
    count = math.ceil(fraction * len(labels) - 1e-9)
    return pd.Index(sorted(label_order(labels, seed, targets)[: max(count, 1)]), name="patient_id")


def label_order(labels: pd.DataFrame, seed: int, targets: TargetSet = RSNA_2023) -> list[str]:
    """Put patients into an order of which every beginning is as even in the classes as it can be.

    First comes a patient of each class that there is, the rarest first, so that even a small part knows all of them;
    then, one at a time, whoever brings the shares of the classes nearest to those of all patients (chi-squared).
    The same patients, labels and seed give the same order whatever the order of the rows.

    Args:
        labels: As for `labelled_part`.
        seed: Breaks ties.
        targets: Whose classes the columns are.
    """
    table = labels.sort_values("patient_id").set_index("patient_id")[list(targets.columns)].fillna(0)
    order = np.random.default_rng(seed).permutation(len(table))
    traits = table.to_numpy(np.int64)[order]
    chosen = _cover(traits)
    chosen += _proportional(traits, chosen)
    patients = [str(patient) for patient in table.index]
    return [patients[order[row]] for row in chosen]


def _cover(traits: Int64[np.ndarray, "n classes"]) -> list[int]:
    """Take the first patient of each class that none of those before has, from the rarest class on."""
    counts = traits.sum(axis=0)
    chosen: list[int] = []
    for column in np.argsort(counts, kind="stable"):
        if counts[column] and not traits[chosen, column].any():
            chosen.append(int(traits[:, column].argmax()))
    return chosen


def _proportional(traits: Int64[np.ndarray, "n classes"], chosen: list[int]) -> list[int]:
    """Order the rows that aren't chosen yet; rows of the same classes follow each other in the order given."""
    patterns, pattern_of = np.unique(traits, axis=0, return_inverse=True)
    waiting: list[list[int]] = [[] for _ in patterns]
    for row in sorted(set(range(len(traits))) - set(chosen), reverse=True):
        waiting[int(pattern_of.reshape(-1)[row])].append(row)
    shares: Float64[np.ndarray, " classes"] = traits.mean(axis=0)
    weights = np.divide(1.0, shares, out=np.zeros_like(shares), where=shares > 0)
    have = traits[chosen].sum(axis=0)
    ordered: list[int] = []
    for count in range(len(chosen) + 1, len(traits) + 1):
        gaps = (((have + patterns - count * shares) ** 2) * weights).sum(axis=1)
        gaps[[not rows for rows in waiting]] = np.inf
        # of patterns that do equally well, the one whose next patient was drawn first
        best = min(np.flatnonzero(gaps <= gaps.min() + 1e-9), key=lambda pattern: waiting[pattern][-1])
        have = have + patterns[best]
        ordered.append(waiting[best].pop())
    return ordered
