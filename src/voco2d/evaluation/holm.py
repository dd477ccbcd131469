"""Corrects p-values of several comparisons, so that any false alarm among them is as rare as one was asked to be."""

from collections.abc import Sequence

import numpy as np

from voco2d.errors import UsageError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values by Holm's step-down method, valid however the comparisons depend on each other.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: 0 to 1 in any order; None or NaN where a comparison is undefined: it stays so and counts for nothing.

    Returns:
        Adjusted values in the same order; one below α rejects its comparison at a family-wise error rate of α.

    Raises:
        UsageError: A value is no probability.
    """
    values = np.array([np.nan if value is None else value for value in p_values], dtype=np.float64)
    defined = np.flatnonzero(~np.isnan(values))
    if ((values[defined] < 0) | (values[defined] > 1)).any():
        raise UsageError(f"p-values lie between 0 and 1; {values[defined].min():g} to {values[defined].max():g} do not")
    rising = defined[np.argsort(values[defined], kind="stable")]
    steps = values[rising] * np.arange(len(rising), 0, -1)
    adjusted: list[float | None] = [None] * len(values)
    for place, value in zip(rising, np.minimum(np.maximum.accumulate(steps), 1), strict=True):
        adjusted[place] = float(value)
    return adjusted
