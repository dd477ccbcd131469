"""HU windows: the range of Hounsfield units that a model sees, mapped to 0…1."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "paper": (-175.0, 250.0),
        "abdomen": (-150.0, 250.0),
        "liver": (-45.0, 105.0),
        "bone": (-500.0, 1300.0),
        "lung": (-1350.0, 150.0),
    }
)
"""Named windows, HU: 2D-VoCo's own, then the usual ones of reading rooms."""


@runtime_checkable
class Clippable(Protocol):
    """What a NumPy array and a torch tensor have in common here; neither library is imported for the other."""

    def clip(self, low: Any, high: Any, /) -> Any:
        """Limit the values to low…high."""

    def __sub__(self, other: Any, /) -> Any: ...


Array = TypeVar("Array", bound=Clippable)


def window_hu(x: Array, low: float | int, high: float | int) -> Array:
    """Map `low`…`high` HU linearly to 0…1 and limit what lies outside.

    Args:
        x: Hounsfield units of any shape; a NumPy array or a torch tensor, integer or floating.
        low: HU that becomes 0.
        high: HU that becomes 1.

    Returns:
        Values 0…1 of the same shape, on the same device: float32 for integer input, else the input's type.

    Raises:
        ValueError: `low` is not below `high`.
    """
    if not low < high:
        raise ValueError(f"the window {low}…{high} HU is empty; low must be below high")
    values: Any = x
    if isinstance(values, np.ndarray) and not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    # Python floats, so that an int16 tensor is promoted before the subtraction can overflow.
    windowed: Array = ((values - float(low)) / (float(high) - float(low))).clip(0.0, 1.0)
    return windowed
