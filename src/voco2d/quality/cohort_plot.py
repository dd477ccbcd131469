"""Histograms over a cohort as small inline SVG pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

BARS: Final = 24
"""Bars of a plot."""


@dataclass(frozen=True)
class Bar:
    """One bar, in per cent of the plot's width and height.

    Args:
        left: Its left side.
        width: Its width.
        height: Its height.
        title: What it counts, in words.
    """

    left: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class CohortPlot:
    """How one measure is distributed over the series.

    Args:
        title: What is counted, with its unit.
        low: Left end of the axis, in words.
        high: Right end of the axis, in words.
        note: How many series are not shown, or empty.
        bars: From left to right.
    """

    title: str
    low: str
    high: str
    note: str
    bars: tuple[Bar, ...]


def cohort_plot(title: str, values: Iterable[object]) -> CohortPlot | None:
    """Count finite values in equal bins up to their 99.5th percentile; None where there is no value.

    Args:
        title: What is counted, with its unit.
        values: One a series; what is no finite number is left out.
    """
    numbers = np.asarray([value for value in values if isinstance(value, int | float)], dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0:
        return None
    low, high = float(numbers.min()), float(np.percentile(numbers, 99.5, method="higher"))
    if high <= low:
        high = low + 1
    shown = numbers[numbers <= high]
    counts, edges = np.histogram(shown, bins=BARS, range=(low, high))
    tallest = int(counts.max())
    width = 100 / BARS
    bars = tuple(
        Bar(
            round(index * width, 2),
            round(width - 0.4, 2),
            round(100 * count / tallest, 2),
            _title(count, edges, index),
        )
        for index, count in enumerate(counts.tolist())
        if count
    )
    left_out = numbers.size - shown.size
    note = f"{left_out} above, up to {numbers.max():.4g}" if left_out else ""
    return CohortPlot(title, f"{low:.4g}", f"{high:.4g}", note, bars)


def _title(count: int, edges: np.ndarray, index: int) -> str:
    return f"{edges[index]:.4g} to {edges[index + 1]:.4g}: {count} series"
