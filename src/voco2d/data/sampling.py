"""The order in which an epoch goes through the training series: each once, or classes evened out."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

Sampling = Literal["shuffle", "balanced"]


def epoch_rows(
    rows: Int64[np.ndarray, " n"],
    labels: Mapping[str, Int64[np.ndarray, " n"]],
    sampling: Sampling,
    seed: Sequence[int],
) -> Int64[np.ndarray, " n"]:
    """Return as many rows as there are: `shuffle` each once, `balanced` drawn with `balanced_weights`, with returning.

    Args:
        rows: To draw from.
        labels: Target name → class indices of `rows`.
        sampling: How.
        seed: Decides the draw.
    """
    draws = np.random.default_rng(seed)
    if sampling == "shuffle":
        return draws.permutation(rows)
    weights = balanced_weights(labels)
    return draws.choice(rows, size=len(rows), p=weights)


def balanced_weights(labels: Mapping[str, Int64[np.ndarray, " n"]]) -> Float64[np.ndarray, " n"]:
    """Weigh samples by how rare their classes are: the mean over the targets of 1 / (classes there are × their count).

    With one target every class would be drawn alike often; with several this is a compromise between them.

    Args:
        labels: Target name → class indices.

    Returns:
        (n) summing to 1.
    """
    weights = []
    for indices in labels.values():
        known = indices >= 0
        if not known.any():
            continue
        counts = np.bincount(indices[known])
        weight = np.full(len(indices), 1 / known.sum())  # whose label is missing counts as the mean of the others
        weight[known] = 1 / ((counts > 0).sum() * counts[indices[known]])
        weights.append(weight)
    if not weights:
        return np.full(len(next(iter(labels.values()))), 1 / len(next(iter(labels.values()))))
    shares: Float64[np.ndarray, " n"] = np.mean(weights, axis=0)
    shares /= shares.sum()
    return shares
