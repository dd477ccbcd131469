"""Draws the figures of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from voco2d.inference.report_canvas import COLORS, STYLE, Axis, new_canvas, png, svg
from voco2d.inference.report_page import Figure

_DASHES: Final = ("-", "--", "-.", ":")

_POINTS_MARKED = 12
_POINTS_DRAWN = 400


@dataclass(frozen=True)
class Line:
    """A line of a chart; x and y are of one length, and what is not finite leaves a gap."""

    label: str
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Mark:
    """Something that happened at a place of the horizontal axis."""

    label: str
    x: float


def line_chart(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    caption: str = "",
    smooth: bool = False,
    marks: Sequence[Mark] = (),
) -> Figure:
    """Draw lines over a common axis; few points are marked, so that a single one is seen.

    Args:
        title: Stands above the chart and, with the labels, in the alternative text.
        x: Horizontal axis.
        y: Vertical axis; where it is to be logarithmic and values are not all above 0 or lie within a decade, which
            would leave no tick, it stays linear.
        lines: In the order of the legend.
        caption: Stands below the chart.
        smooth: Draw a long line pale and its running mean over it.
        marks: Vertical lines, each with its label.
    """
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, x, y)
        for number, line in enumerate(lines):
            _draw_line(axes, line, number, smooth)
        if y.log and _spans_a_decade(lines):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        draw_marks(axes, marks)
        if len(lines) > 1:
            axes.legend()
        alt = f"{title}: {y.label} over {x.label}; {', '.join(line.label for line in lines)}{_told(marks)}"
        return Figure(svg(canvas), alt, caption)


def share_map(
    title: str,
    x: Axis,
    y: Axis,
    places: Float[np.ndarray, " columns"],
    shares: Float[np.ndarray, "columns bins"],
    caption: str = "",
    marks: Sequence[Mark] = (),
) -> Figure:
    """Draw how a histogram changes: a column of grey cells a place, the darker the larger the share.

    Args:
        title: Stands above the map.
        x: Horizontal axis.
        y: Vertical axis; its limits are the ends of the histogram.
        places: Where the columns stand, rising.
        shares: Of each bin, 0…1.
        caption: Stands below the map.
        marks: Vertical lines, each with its label.
    """
    chosen = _thinned(len(places))
    low, high = y.limits or (0.0, 1.0)
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, x, y)
        edges = np.linspace(low, high, shares.shape[1] + 1)
        cells = axes.pcolormesh(_column_edges(places[chosen]), edges, shares[chosen].T, cmap="Greys", vmin=0)
        axes.grid(visible=False)
        canvas.colorbar(cells, ax=axes, label="share")
        draw_marks(axes, marks)
        return Figure(png(canvas), f"{title}: share of {y.label} over {x.label}{_told(marks)}", caption)


def curve_chart(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    reference: Line | None = None,
    caption: str = "",
    steps: bool = False,
) -> Figure:
    """Draw curves in the unit square, ROC curves for example, with a dashed grey line to compare them with.

    Args:
        title: Stands above the chart.
        x: Horizontal axis.
        y: Vertical axis.
        lines: In the order of the legend.
        reference: The dashed line.
        caption: Stands below the chart.
        steps: Draw steps, as scikit-learn's average precision sums them; x then falls from point to point.
    """
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, x, y)
        if reference is not None:
            axes.plot(reference.x, reference.y, color="#777777", linestyle="--", linewidth=1, label=reference.label)
        for number, line in enumerate(lines):
            points = _thinned(len(line.x))
            color, dash = COLORS[number % len(COLORS)], _DASHES[number % len(_DASHES)]
            marker = "o" if len(points) <= _POINTS_MARKED else ""
            style: dict[str, Any] = {
                "color": color,
                "linestyle": dash,
                "marker": marker,
                "drawstyle": "steps-post" if steps else "default",
            }
            axes.plot(line.x[points], line.y[points], label=line.label, **style)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend()
        alt = f"{title}: {y.label} over {x.label}; {', '.join(line.label for line in lines)}"
        return Figure(svg(canvas), alt, caption)


def interval_chart(title: str, x: Axis, rows: Mapping[str, tuple[float, float, float]], caption: str = "") -> Figure:
    """Draw a value with its interval a row: (value, low, high)."""
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, x, Axis(""), height_inches=1.0 + 0.4 * len(rows))
        for place, (value, low, high) in enumerate(rows.values()):
            color = COLORS[place % len(COLORS)]
            axes.plot([low, high], [place, place], color=color, linewidth=2)
            axes.plot([value], [place], color=color, marker="o")
        axes.set_yticks(range(len(rows)), [_drawable(name) for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return Figure(svg(canvas), f"{title} of {', '.join(rows)} with 95 % intervals", caption)


def draw_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw vertical lines, each with its label beside its upper end."""
    for mark in marks:
        axes.axvline(mark.x, color="#B00020", linestyle=":", linewidth=1.3)
        place: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "va": "top"}
        name = _drawable(mark.label)
        axes.annotate(name, (mark.x, 1.0), (3, -2), rotation=90, fontsize=8, color="#B00020", **place)


def _spans_a_decade(lines: Sequence[Line]) -> bool:
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    return bool(len(values) and values.min() > 0 and values.max() > 10 * values.min())


def _told(marks: Sequence[Mark]) -> str:
    return "".join(f"; {mark.label} at {mark.x:g}" for mark in marks)


def _column_edges(places: Float[np.ndarray, " columns"]) -> Float[np.ndarray, " edges"]:
    """Return the edges of columns, midway between their places."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middles = (places[1:] + places[:-1]) / 2
    first, last = 2 * places[0] - middles[0], 2 * places[-1] - middles[-1]
    edges: Float[np.ndarray, " edges"] = np.concatenate([[first], middles, [last]])
    return edges


def _draw_line(axes: Axes, line: Line, number: int, smooth: bool) -> None:
    color = COLORS[number % len(COLORS)]
    dash = _DASHES[number // len(COLORS) % len(_DASHES)]
    points = _thinned(len(line.x))
    if smooth and len(line.x) > 100:
        axes.plot(line.x[points], line.y[points], color=color, linewidth=0.8, alpha=0.3)
        mean = _running_mean(line.y, len(line.y) // 25)
        axes.plot(line.x[points], mean[points], color=color, linestyle=dash, label=line.label)
        return
    marker = "o" if len(line.x) <= _POINTS_MARKED else ""
    axes.plot(
        line.x[points], line.y[points], color=color, linestyle=dash, marker=marker, markersize=4, label=line.label
    )


def _running_mean(values: Float[np.ndarray, " points"], window: int) -> Float[np.ndarray, " points"]:
    """Average over `window` points around each, over those that are finite; NaN where none is."""
    finite = np.isfinite(values)
    kernel = np.ones(window)
    total = np.convolve(np.where(finite, values, 0.0), kernel, mode="same")
    count = np.convolve(finite.astype(np.float64), kernel, mode="same")
    mean: Float[np.ndarray, " points"] = np.where(count > 0.5, total / np.maximum(count, 1), np.nan)
    return mean


def _thinned(points: int) -> np.ndarray:
    """Choose the points of a long line that are drawn: a page need not hold thousands a line."""
    return np.unique(np.linspace(0, points - 1, min(points, _POINTS_DRAWN)).astype(np.int64))


def _drawable(name: str) -> str:
    """Keep what every font has; the page's tables hold the full name."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= 20 else plain[:19] + "~"
