"""The HU histogram of a volume on fixed bins, and the shares and percentiles read from its voxels."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float, Int16, Int64

EDGES_HU: Final = (-1024, -950, -850, -650, -400, -200, -130, -90, -50, -10, 30, 70, 120, 180, 300, 600, 3071)
"""Borders of the 16 bins, HU; the last bin holds its upper border, and what lies outside goes to the outer bins."""

COLUMNS: Final = tuple(f"hu_bin_{index:02d}" for index in range(len(EDGES_HU) - 1))
"""Column of each bin, from the lowest HU to the highest."""

PERCENTILES: Final[Mapping[str, float]] = MappingProxyType({"hu_p01": 1, "hu_p50": 50, "hu_p99": 99})
"""Column of each percentile."""

_LOWEST_HU: Final = 2**15
_PEAK_FOOT: Final = 0.95
_FINE_HU: Final = np.arange(-150, 181, 5)


def count_values(hu: Int16[np.ndarray, "..."]) -> Int64[np.ndarray, " values"]:
    """Count each int16 value, the lowest (-32768) first; one pass that all the numbers below are read from."""
    # the bits of an int16 seen as unsigned: one copy less than shifting the values
    counts = np.bincount(hu.reshape(-1).view(np.uint16), minlength=2**16)
    return np.asarray(np.concatenate([counts[2**15 :], counts[: 2**15]]), np.int64)


def percentile(counts: Int64[np.ndarray, " values"], share: float | int) -> float:
    """Return the value below which `share` percent lie, interpolated linearly as `numpy.percentile` does.

    Args:
        counts: As `count_values` returns.
        share: 0…100.
    """
    below = np.cumsum(counts)
    place = share / 100 * (int(below[-1]) - 1)
    lower, upper = (int(np.searchsorted(below, np.floor(place) + step, side="left")) for step in (1, 2))
    upper = lower if place == np.floor(place) else upper
    return lower + (upper - lower) * float(place - np.floor(place)) - _LOWEST_HU


def histogram(counts: Int64[np.ndarray, " values"]) -> Float[np.ndarray, " bins"]:
    """Return the share of the voxels in each bin of `EDGES_HU`, 0…1; the shares sum to 1."""
    borders = np.asarray(EDGES_HU) + _LOWEST_HU
    inner = np.add.reduceat(counts, borders[:-1])
    inner[0] += counts[: borders[0]].sum()
    return np.asarray(inner / max(1, int(counts.sum())))


def peak_hu(counts: Int64[np.ndarray, " values"], low: int, high: int) -> float | None:
    """Return the commonest HU between `low` and `high`, to 5 HU, or None where there is no peak.

    A peak stands out from both sides of it within the range. A head has hardly any fat, and of the slope from its air
    to its brain one bin or another is a little above the next: that is no fat at −50 HU.
    """
    bins = _FINE_HU[(low <= _FINE_HU) & (high >= _FINE_HU)]
    fine = np.add.reduceat(counts[: bins[-1] + _LOWEST_HU], bins[:-1] + _LOWEST_HU)
    if fine.sum() < 1000:
        return None
    highest = int(fine.argmax())
    # The slope of a peak that lies further out is no peak.
    if highest in (0, fine.size - 1):
        return None
    foot = max(int(fine[:highest].min()), int(fine[highest + 1 :].min()))
    return float(bins[highest] + 2.5) if foot <= _PEAK_FOOT * int(fine[highest]) else None
