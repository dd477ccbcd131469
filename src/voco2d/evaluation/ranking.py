"""Average precision and ROC area of rows that count several times, for many countings at once.

What a resample or a permutation changes is how often each row counts, never its score: rows are put into the segments
between the scores of the positive rows once, and each counting is then a sum over segments.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array


def weighted_average_precision(
    positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"], times: Float[np.ndarray, "N draws"]
) -> Float[np.ndarray, " draws"]:
    """Compute Σ (Rₙ − Rₙ₋₁) Pₙ over thresholds, equal scores being one threshold, as scikit-learn does.

    Args:
        positive: Whether each row is of the class.
        score: What was predicted, the higher the more of the class.
        times: How often each row counts in each draw, 0 or more.

    Returns:
        A value a draw, 0 to 1; NaN where it has no positive row or no other.
    """
    thresholds, segment = _segments(positive, score)
    hits = _sums(segment, positive, times, thresholds)
    caught, called = np.cumsum(hits, axis=0), np.cumsum(_sums(segment, None, times, thresholds), axis=0)
    positives = hits.sum(axis=0)
    area = (hits * caught / np.maximum(called, 1)).sum(axis=0) / np.maximum(positives, 1)
    return _where_defined(area, positives, times)


def weighted_roc_auc(
    positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"], times: Float[np.ndarray, "N draws"]
) -> Float[np.ndarray, " draws"]:
    """Compute the share of pairs of a positive and another row that are in order, equal scores counting one half.

    Args and returns as `weighted_average_precision`.
    """
    thresholds, segment = _segments(positive, score)
    hits = _sums(segment, positive, times, thresholds)
    at_or_above = np.cumsum(_sums(segment, ~positive, times, thresholds), axis=0)
    ties = _sums(segment, ~positive & np.isin(score, score[positive]), times, thresholds)
    positives = hits.sum(axis=0)
    others = times.sum(axis=0) - positives
    in_order = (hits * (others - at_or_above + ties / 2)).sum(axis=0)
    return _where_defined(in_order / np.maximum(positives * others, 1), positives, times)


def _segments(positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"]) -> tuple[int, np.ndarray]:
    """Number the distinct scores of positive rows from the highest; give each row the first that is not above it.

    Returns:
        How many there are, and the number of each row; rows below all of them have that of none.
    """
    thresholds = np.unique(score[positive])
    return len(thresholds), len(thresholds) - np.searchsorted(thresholds, score, side="right")


def _sums(
    segment: np.ndarray, chosen: Bool[np.ndarray, " N"] | None, times: Float[np.ndarray, "N draws"], segments: int
) -> Float[np.ndarray, "segments draws"]:
    """Add up how often the chosen rows of each segment count."""
    rows = np.flatnonzero(segment < segments if chosen is None else chosen & (segment < segments))
    shape = (segments, len(segment))
    sums: Float[np.ndarray, "segments draws"] = csr_array((np.ones(len(rows)), (segment[rows], rows)), shape) @ times
    return sums


def _where_defined(
    values: Float[np.ndarray, " draws"], positives: Float[np.ndarray, " draws"], times: Float[np.ndarray, "N draws"]
) -> Float[np.ndarray, " draws"]:
    defined: Float[np.ndarray, " draws"] = np.where((positives > 0) & (positives < times.sum(axis=0)), values, np.nan)
    return defined
