"""Draws the figures of a report with Matplotlib's Agg and SVG canvases, without a display and without global state."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from voco2d.inference.report_page import Figure

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision (Color Universal Design, 2008); yellow is left out."""
_DASHES: Final = ("-", "--", "-.", ":")

_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that a page looks the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.parse_math": False,  # a name with dollar signs is a name
    "axes.formatter.limits": (-3, 4),
    "svg.hashsalt": "voco2d",
}
_WIDTH_INCHES: Final = 4.4
_POINTS_MARKED = 12
_POINTS_DRAWN = 400


@dataclass(frozen=True)
class Line:
    """A line of a chart; x and y are of one length, and what is not finite leaves a gap."""

    label: str
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Axis:
    """An axis of a chart: its label, its range where that is fixed, and whether it is logarithmic."""

    label: str
    limits: tuple[float, float] | None = None
    log: bool = False


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], caption: str = "", smooth: bool = False) -> Figure:
    """Draw lines over a common axis; few points are marked, so that a single one is seen.

    Args:
        title: Stands above the chart and, with the labels, in the alternative text.
        x: Horizontal axis.
        y: Vertical axis; where it is to be logarithmic and a line has no value above 0, it stays linear.
        lines: In the order of the legend.
        caption: Stands below the chart.
        smooth: Draw a long line pale and its running mean over it.
    """
    with rc_context(_STYLE):
        canvas, axes = _canvas(title, x, y)
        for number, line in enumerate(lines):
            _draw_line(axes, line, number, smooth)
        positive = all(bool((line.y[np.isfinite(line.y)] > 0).all()) for line in lines)
        if y.log and positive:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if len(lines) > 1:
            axes.legend()
        alt = f"{title}: {y.label} over {x.label}; {', '.join(line.label for line in lines)}"
        return Figure(_svg(canvas), alt, caption)


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
    with rc_context(_STYLE):
        canvas, axes = _canvas(title, x, y)
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
        return Figure(_svg(canvas), alt, caption)


def interval_chart(title: str, x: Axis, rows: Mapping[str, tuple[float, float, float]], caption: str = "") -> Figure:
    """Draw a value with its interval a row: (value, low, high)."""
    with rc_context(_STYLE):
        canvas, axes = _canvas(title, x, Axis(""), height_inches=1.0 + 0.4 * len(rows))
        for place, (value, low, high) in enumerate(rows.values()):
            color = COLORS[place % len(COLORS)]
            axes.plot([low, high], [place, place], color=color, linewidth=2)
            axes.plot([value], [place], color=color, marker="o")
        axes.set_yticks(range(len(rows)), [_drawable(name) for name in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return Figure(_svg(canvas), f"{title} of {', '.join(rows)} with 95 % intervals", caption)


def slice_montage(
    slices: Sequence[tuple[str, Float[np.ndarray, "H W"]]], pixel_aspect: float, alt: str, caption: str = ""
) -> Figure:
    """Show slices in three columns, the patient's right on the left as radiologists look at them.

    Args:
        slices: Title and grey values 0 to 1 of each.
        pixel_aspect: Height of a pixel over its width, both in mm.
        alt: What is shown, for those who can't see it.
        caption: Stands below.
    """
    columns = min(3, len(slices))
    rows = -(-len(slices) // columns)
    height, width = slices[0][1].shape
    cell_inches = 2.1
    with rc_context(_STYLE):
        shape = min(2.0, max(0.5, height * pixel_aspect / width))
        canvas = Canvas(figsize=(cell_inches * columns, (cell_inches * shape + 0.25) * rows), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (title, pixels) in zip(grid, slices, strict=False):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=pixel_aspect, interpolation="nearest")
            axes.set_title(title, fontsize=10)
            box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
            axes.text(0.03, 0.93, "R", transform=axes.transAxes, color="#E69F00", fontsize=9, va="center", bbox=box)
        return Figure(_png(canvas), alt, caption)


def _canvas(title: str, x: Axis, y: Axis, height_inches: float = 3.2) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    axes = canvas.subplots()
    axes.set_title(title)
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    if x.limits is not None:
        axes.set_xlim(*x.limits)
    if y.limits is not None:
        axes.set_ylim(*y.limits)
    return canvas, axes


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


def _svg(canvas: Canvas) -> str:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _png(canvas: Canvas) -> str:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=120)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
