"""From the logits of several networks to one set of probabilities, their spread, and the maximum over series."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from voco2d.evaluation.scaling import Scaler
from voco2d.inference.runtime import FEATURES, Runtime, Slices
from voco2d.models.flips import FLIP_AXES
from voco2d.targets import RSNA_2023, TargetSet


def grade(
    runtime: Runtime, slices: Slices, flips: Sequence[str], targets: TargetSet = RSNA_2023
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " D"] | None]:
    """Grade a volume as it is and mirrored along each of `flips` by itself, and average the probabilities.

    Args:
        runtime: One network.
        slices: As `Runtime.logits` takes them.
        flips: Names of `FLIP_AXES`.
        targets: What is graded.

    Returns:
        Probabilities in the order of `TargetSet.columns`, each target's sum 1; and the features of the volume as it is.
    """
    # without the batch, axes begin one earlier
    views = [slices, *(np.ascontiguousarray(np.flip(slices, FLIP_AXES[name] - 1)) for name in flips)]
    answers = [runtime.logits(view) for view in views]
    probabilities = np.mean([_columns(answer, targets) for answer in answers], axis=0)
    return probabilities, answers[0].get(FEATURES)


def calibrate(
    rows: Float[np.ndarray, "n classes"], scalers: Mapping[str, Scaler] | None, targets: TargetSet = RSNA_2023
) -> Float[np.ndarray, "n classes"]:
    """Scale the probabilities of each target; without scalers they stay."""
    if scalers is None:
        return rows
    return np.concatenate([scalers[name](rows[:, part]) for name, part in targets.parts.items()], axis=1)


def maximum(rows: Float[np.ndarray, "n classes"], targets: TargetSet = RSNA_2023) -> Float[np.ndarray, " classes"]:
    """Take each column's maximum over a patient's series and renormalise each target, as the evaluation does."""
    highest = rows.max(axis=0)
    return np.concatenate([highest[part] / highest[part].sum() for part in targets.parts.values()])


def fold_range(
    folds: Float[np.ndarray, "K classes"], mean: Float[np.ndarray, " classes"]
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]] | None:
    """Return the lowest and highest probability that a network gave; None where there is only one network.

    With K networks the median of all that might have been trained lies between with probability 1 − 2^(1 − K): 94 %
    for five. It tells how far training with other patients moves the answer, not how often the answer is right.
    """
    if len(folds) < 2:
        return None
    # scaling three classes keeps no order, so the mean might just lie outside
    return np.minimum(folds.min(axis=0), mean), np.maximum(folds.max(axis=0), mean)


def any_injury(row: Float[np.ndarray, " classes"], targets: TargetSet = RSNA_2023) -> float:
    """Return the maximum over targets of 1 − p(healthy)."""
    return float(max(1 - row[part.start] for part in targets.parts.values()))


def _columns(logits: Mapping[str, Float[np.ndarray, " _"]], targets: TargetSet) -> Float[np.ndarray, " classes"]:
    return np.concatenate([softmax(logits[name].astype(np.float64)) for name in targets])
