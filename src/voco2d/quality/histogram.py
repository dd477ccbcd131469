"""The HU histogram of a volume on fixed bins, and the shares and percentiles read from its voxels."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float, Num

EDGES_HU: Final = (-1024, -950, -850, -650, -400, -200, -130, -90, -50, -10, 30, 70, 120, 180, 300, 600, 3071)
"""Borders of the 16 bins, HU; the last bin holds its upper border, and what lies outside goes to the outer bins."""

COLUMNS: Final = tuple(f"hu_bin_{index:02d}" for index in range(len(EDGES_HU) - 1))
"""Column of each bin, from the lowest HU to the highest."""

PERCENTILES: Final[Mapping[str, float]] = MappingProxyType({"hu_p01": 1, "hu_p50": 50, "hu_p99": 99})
"""Column of each percentile."""

_FINE_HU: Final = np.arange(-150, 181, 5)


def histogram(hu: Num[np.ndarray, "..."]) -> Float[np.ndarray, " bins"]:
    """Return the share of the voxels in each bin of `EDGES_HU`, 0…1; the shares sum to 1."""
    limited = np.clip(hu, EDGES_HU[0], EDGES_HU[-1])
    counts, _ = np.histogram(limited, bins=np.asarray(EDGES_HU))
    return counts / max(1, hu.size)


def peak_hu(hu: Num[np.ndarray, "..."], low: int, high: int) -> float | None:
    """Return the commonest HU between `low` and `high`, to 5 HU, or None where there is no peak."""
    bins = _FINE_HU[(low <= _FINE_HU) & (high >= _FINE_HU)]
    inside = hu[(hu >= bins[0]) & (hu < bins[-1])]
    if inside.size < 1000:
        return None
    counts, _ = np.histogram(inside, bins=bins)
    highest = int(counts.argmax())
    # The slope of a peak that lies further out is no peak.
    return None if highest in (0, counts.size - 1) else float(bins[highest] + 2.5)
