"""Whether the values of a volume were limited to a window before: they pile up at the lowest or the highest one."""

from typing import Final

import numpy as np
from jaxtyping import Int16

from voco2d.io.hounsfield import HU_FLOOR
from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import Prepared

MAX_LOW_HU: Final = -900
"""A scanner's values reach down to air, at or below this."""

MIN_HIGH_HU: Final = 1000
"""The lowest end of a scanner's scale (12 bits from −1024 end at 3071, 11 bits at 1023)."""

_LOW_PERCENTILE: Final = 3
_LOW_SHARE: Final = 0.01
_HIGH_SHARE: Final = 0.001
_SLICES: Final = 5


def middle_slices(volume: Volume, prepared: Prepared) -> Int16[np.ndarray, "few H W"]:
    """Return a few evenly spaced source slices inside the box that was cut out."""
    z0, z1, h0, h1, w0, w1 = prepared.box
    places = np.unique(np.linspace(z0, z1 - 1, _SLICES).round().astype(int))
    return np.stack([np.asarray(volume.hu[z, h0:h1, w0:w1]) for z in places])


def is_limited(hu: Int16[np.ndarray, "few H W"]) -> bool:
    """Whether values pile up at the ends of a range that is narrower than a scanner's.

    Args:
        hu: Source slices. −1024 HU is not looked at: readers fill with it what no slice covers, so beside the
            sheared slices of a tilted gantry it stands even in a volume that was limited to a window. Where the two
            meet they are blended, which is why the lowest value is not the very lowest.
    """
    values = hu[hu > HU_FLOOR]
    if values.size == 0:
        return False
    low, high = int(np.percentile(values, _LOW_PERCENTILE, method="lower")), int(values.max())
    if low == high:
        return False
    at_low, at_high = (np.count_nonzero(values == end) / values.size for end in (low, high))
    return bool((low > MAX_LOW_HU and at_low >= _LOW_SHARE) or (high < MIN_HIGH_HU and at_high >= _HIGH_SHARE))
