"""Whether a predicted probability means what it says."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from voco2d.errors import UsageError

BINS: Final = 10
"""Bins of equal width that a calibration error takes where nothing else is said."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted against observed, in bins of equal width; bins without a row are left out.

    Args:
        predicted: Mean probability in each bin, 0 to 1.
        observed: Share of positive rows in each bin, 0 to 1.
        count: Rows in each bin.
    """

    predicted: Float[np.ndarray, " bins"]
    observed: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]


def reliability_curve(
    positive: Bool[np.ndarray, " N"], probability: Float[np.ndarray, " N"], bins: int = BINS
) -> ReliabilityCurve:
    """Compare predicted probabilities with what was observed.

    Args:
        positive: Whether each row is of the class.
        probability: What was predicted for it, 0 to 1; 1 belongs to the last bin.
        bins: Number of bins of equal width.

    Raises:
        UsageError: There are no rows or no bins.
    """
    if bins < 1 or not len(probability):
        raise UsageError(
            f"a reliability curve of {len(probability)} rows in {bins} bins; it takes at least one of each"
        )
    bin_of_row = bin_of_probability(probability, bins)
    count = np.bincount(bin_of_row, minlength=bins)
    filled = count > 0
    predicted = np.bincount(bin_of_row, weights=probability, minlength=bins)[filled] / count[filled]
    observed = np.bincount(bin_of_row, weights=positive, minlength=bins)[filled] / count[filled]
    return ReliabilityCurve(predicted, observed, count[filled])


def bin_of_probability(probability: Float[np.ndarray, " N"], bins: int) -> Int[np.ndarray, " N"]:
    """Number the bin of each probability from 0; a bin holds its lower end, the last one 1 too."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def expected_calibration_error(
    positive: Bool[np.ndarray, " N"], probability: Float[np.ndarray, " N"], bins: int = BINS
) -> float:
    """Average |predicted − observed| over the bins, each weighted with its rows: 0 is calibrated, 1 the worst.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    curve = reliability_curve(positive, probability, bins)
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.count))


def brier_score(positive: Bool[np.ndarray, " N"], probability: Float[np.ndarray, " N"]) -> float:
    """Average the squared difference of probability and outcome: 0 is perfect, 0.25 is saying 0.5 always."""
    return float(np.mean((probability - positive) ** 2))
