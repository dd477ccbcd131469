"""DeLong's variance of areas under ROC curves of the same patients: intervals and tests without resampling.

Rows must be independent: one a patient. Sources: DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or
More Correlated ROC Curves, Biometrics 44, 1988; from midranks in O(n log n): Sun and Xu, Fast Implementation of
DeLong's Algorithm, IEEE Signal Processing Letters 21, 2014.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm, rankdata

from voco2d.errors import UsageError

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Area:
    """An area under a ROC curve.

    Args:
        roc_auc: 0 to 1.
        error: Its standard error.
        low: Lower end of the 95 % interval of a normal distribution, not below 0.
        high: Upper end, not above 1.
    """

    roc_auc: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class AreaDifference:
    """Two areas of the same patients.

    Args:
        first: Area of the first model.
        second: Area of the second.
        difference: Second minus first.
        low: Lower end of the difference's 95 % interval.
        high: Upper end.
        z: Difference over its standard error; 0 where both rank alike.
        p: Two-sided.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    z: float
    p: float


def area_under_curve(positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"]) -> Area:
    """Compute an area with its standard error and interval.

    Where the area is 0 or 1 the standard error is 0, which says that the method fails, not that the area is certain.

    Args:
        positive: Whether each patient is of the class.
        score: What was predicted, the higher the more of the class.

    Raises:
        UsageError: Fewer than two patients are of the class, or of another.
    """
    areas, covariance = areas_with_covariance(positive, score[None])
    area, error = float(areas[0]), float(np.sqrt(covariance[0, 0]))
    reach = _reach(error)
    return Area(area, error, max(0.0, area - reach), min(1.0, area + reach))


def compare_areas(
    positive: Bool[np.ndarray, " N"], first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]
) -> AreaDifference:
    """Test whether two models rank the same patients equally well; arguments and errors as `area_under_curve`."""
    areas, covariance = areas_with_covariance(positive, np.stack([first, second]))
    difference = float(areas[1] - areas[0])
    error = float(np.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    # models that rank alike differ by nothing, with no spread; any difference without spread is beyond doubt
    z = 0.0 if difference == 0 else difference / error if error > 0 else float(np.copysign(np.inf, difference))
    reach = _reach(error)
    p = float(2 * norm.sf(abs(z)))
    return AreaDifference(float(areas[0]), float(areas[1]), difference, difference - reach, difference + reach, z, p)


def areas_with_covariance(
    positive: Bool[np.ndarray, " N"], scores: Float[np.ndarray, "models N"]
) -> tuple[Float[np.ndarray, " models"], Float[np.ndarray, "models models"]]:
    """Compute the areas of several models and how they vary together over draws of patients.

    Raises:
        UsageError: Fewer than two patients are of the class, or of another.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if min(positives, negatives) < 2:
        raise UsageError(f"{positives} patients of the class and {negatives} of another; two of each are needed")
    overall = rankdata(scores, axis=1)
    above = (overall[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives
    below = 1 - (overall[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    # above: share of negatives that each positive outranks; below: share of positives that outrank each negative
    covariance = np.atleast_2d(np.cov(above)) / positives + np.atleast_2d(np.cov(below)) / negatives
    return above.mean(axis=1), covariance


def _reach(error: float) -> float:
    return float(norm.ppf((1 + CONFIDENCE) / 2)) * error
