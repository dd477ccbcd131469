"""Histograms over a cohort as small inline SVG pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

BARS: Final = 24
"""Bars of a plot at most."""

_PERCENTILE: Final = 99.5
"""What lies above it is told in words, so that one far value doesn't squeeze all others into one bar."""


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
        low: Left end of the axis, in words; empty where there is no axis.
        high: Right end of the axis, in words; empty where there is no axis.
        tallest: Series in the tallest bar.
        note: What the bars don't show, or all there is to say where every series has the same value.
        bars: From left to right; none where every series has the same value.
    """

    title: str
    low: str
    high: str
    tallest: int
    note: str
    bars: tuple[Bar, ...]


def cohort_plot(title: str, values: Iterable[object]) -> CohortPlot | None:
    """Count finite values in equal bins up to their 99.5th percentile; None where there is no value.

    One value alone has no distribution, so it is told in words: an axis would have to be made up. Whole numbers get
    bins that hold as many whole numbers each.

    Args:
        title: What is counted, with its unit.
        values: One a series; what is no finite number is left out.
    """
    numbers = np.asarray([value for value in values if isinstance(value, int | float)], dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size == 0:
        return None
    low, high = float(numbers.min()), float(np.percentile(numbers, _PERCENTILE, method="higher"))
    shown = numbers[numbers <= high]
    note = f"{numbers.size - shown.size} above, up to {_text(numbers.max())}" if shown.size < numbers.size else ""
    if low == high:
        same = f"{_text(low)} in {'the only' if shown.size == 1 else f'all {shown.size}'} series"
        return CohortPlot(title, "", "", shown.size, "; ".join(filter(None, (same, note))), ())
    whole = bool((shown == np.rint(shown)).all())
    edges = _whole_edges(low, high) if whole else np.linspace(low, high, BARS + 1)
    counts, _ = np.histogram(shown, bins=edges)
    return CohortPlot(title, _text(low), _text(high), int(counts.max()), note, _bars(counts.tolist(), edges, whole))


def _whole_edges(low: float, high: float) -> Float[np.ndarray, " edges"]:
    """Borders between whole numbers, at equal distances of a whole number."""
    step = int(np.ceil((high - low + 1) / BARS))
    count = int(np.ceil((high - low + 1) / step))
    return np.asarray(low - 0.5 + step * np.arange(count + 1), dtype=np.float64)


def _bars(counts: list[int], edges: Float[np.ndarray, " edges"], whole: bool) -> tuple[Bar, ...]:
    width = 100 / len(counts)
    return tuple(
        Bar(
            round(index * width, 2),
            round(width - 0.4, 2),
            round(100 * count / max(counts), 2),
            f"{_range(edges[index], edges[index + 1], whole)}: {count} series",
        )
        for index, count in enumerate(counts)
        if count
    )


def _range(low: float, high: float, whole: bool) -> str:
    if whole:
        low, high = low + 0.5, high - 0.5
    return _text(low) if low == high else f"{_text(low)} to {_text(high)}"


def _text(value: float) -> str:
    """Write a number with four digits, large ones whole."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
