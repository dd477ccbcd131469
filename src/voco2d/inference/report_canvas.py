"""What figures of a report are drawn on: Matplotlib's Agg and SVG canvases, without a display or global state."""

import base64
import io
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision (Color Universal Design, 2008); yellow is left out."""
STYLE: Final[dict[Any, Any]] = {
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


@dataclass(frozen=True)
class Axis:
    """An axis of a chart: its label, its range where that is fixed, and whether it is logarithmic."""

    label: str
    limits: tuple[float, float] | None = None
    log: bool = False


def new_canvas(title: str, x: Axis, y: Axis, height_inches: float = 3.2) -> tuple[Canvas, Axes]:
    """Make an empty figure with its title, labels and ranges; call it within `rc_context(STYLE)`."""
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


def svg(canvas: Canvas) -> str:
    """Write a figure as the address of an SVG image that holds it."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def png(canvas: Canvas) -> str:
    """Write a figure as the address of a PNG image that holds it."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=120)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
