"""Draws the figures of a study's page: answers with what they are compared with, curves along the scan, key slices."""

import base64
import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Num, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image

from voco2d.inference.explain.explanation import KeySlice, SeriesExplanation, TargetExplanation
from voco2d.inference.explain.overlay import key_slice_picture, mark_right, overlay, to_square_pixels
from voco2d.inference.report_canvas import COLORS, STYLE, Axis, new_canvas, svg
from voco2d.inference.report_page import Figure
from voco2d.io.volume import Volume

STRIP_SLICES: Final = 10
_STRIP_WIDTH: Final = 56
"""Pixels of one slice of the strip."""
_PICTURE_WIDTH: Final = 300
"""Pixels of a key slice on the page."""
_QUALITY: Final = 85
_NAMES: Final[Mapping[str, str]] = {
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "max_positions": "maxima of the LSTM's features",
    "attention": "attention",
    "hidden_slices": "slices hidden",
}

Strip = UInt8[np.ndarray, "rows columns"]
"""Slices of a scan side by side, from superior to inferior, grey."""


def reference_chart(
    injuries: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]] | None,
    shares: Mapping[str, float] | None,
    event: str = "an injury",
) -> Figure:
    """Draw each target's probability of an event, the range of the networks, and how common it was in training.

    Args:
        injuries: Target → probability.
        ranges: Target → lowest and highest network, None with a single one.
        shares: Target → share of training patients with an injury, None where it is unknown.
        event: What it is the probability of.
    """
    with rc_context(STYLE):
        title = f"Probability of {event}"
        canvas, axes = new_canvas(title, Axis("probability", (-0.02, 1.02)), Axis(""), 1.2 + 0.38 * len(injuries))
        for place, (name, value) in enumerate(injuries.items()):
            if shares is not None:
                label = "share in training" if place == 0 else None
                axes.plot([shares[name]], [place], color="#777777", marker="|", markersize=16, lw=0, label=label)
            if ranges is not None:
                label = "lowest to highest network" if place == 0 else None
                axes.plot(ranges[name], [place, place], color=COLORS[0], linewidth=3, alpha=0.4, label=label)
            axes.plot([value], [place], color=COLORS[0], marker="o", lw=0, label="this study" if place == 0 else None)
        axes.set_yticks(range(len(injuries)), list(injuries))
        axes.set_ylim(len(injuries) - 0.5, -0.5)
        canvas.legend(loc="outside lower center", ncols=3, fontsize=8, handletextpad=0.4, columnspacing=1)
        return Figure(svg(canvas), f"{title} of {', '.join(injuries)}; the table holds the numbers")


def slice_strip(volume: Volume, explanation: SeriesExplanation) -> Strip:
    """Cut the scan into parts of equal length and show the middle slice of each, the networks' part in the plane."""
    depth = volume.hu.shape[0]
    count = min(STRIP_SLICES, depth)
    indices = ((np.arange(count) + 0.5) * depth / count).astype(int)
    pictures = [
        _resized(overlay(_body(volume, explanation, np.asarray(volume.hu[index])), None)[..., 0], volume, _STRIP_WIDTH)
        for index in indices
    ]
    return np.concatenate([np.asarray(picture) for picture in pictures], axis=1)


def curve_figure(told: TargetExplanation, explanation: SeriesExplanation, strip: Strip) -> Figure:
    """Draw a target's curves along the scan under its slices; each is divided by its largest absolute value."""
    depth = explanation.grid.shape[0]
    numbers = np.arange(depth) + 1
    with rc_context(STYLE):
        canvas = Canvas(figsize=(4.4, 3.6), layout="constrained")
        above, axes = canvas.subplots(2, 1, sharex=True, height_ratios=(strip.shape[0] / strip.shape[1] * 4.4, 2))
        _draw_strip(above, strip, depth)
        for number, (method, curve) in enumerate(told.curves.items()):
            relative = explanation.grid.curve(curve / (np.abs(curve).max() or 1.0))
            is_ranking = method == explanation.ranked_by
            if is_ranking:
                axes.fill_between(numbers, 0, np.clip(relative, 0, None), color=COLORS[1], alpha=0.25, linewidth=0)
            style: dict[str, Any] = {"linewidth": 1.8 if is_ranking else 1.0, "linestyle": "-" if is_ranking else "--"}
            colour = COLORS[1] if is_ranking else COLORS[(0, 2, 3, 4)[number % 4]]
            axes.plot(numbers, relative, color=colour, label=_NAMES[method], **style)
        axes.axhline(0, color="#777777", linewidth=0.8)
        for key in told.key_slices:
            axes.axvline(key.source.index + 1, color="#222222", linestyle=":", linewidth=1)
            axes.annotate(str(key.rank), (key.source.index + 1, 1.06), ha="center", fontsize=9, weight="bold")
        axes.set(xlim=(0.5, depth + 0.5), ylim=(-1.05, 1.25), xlabel="slice, from head to foot", ylabel="attribution")
        canvas.legend(loc="outside lower center", ncols=2, fontsize=8)
        keys = ", ".join(str(key.source.index + 1) for key in told.key_slices)
        alt = f"{told.name}: attribution of each slice under a strip of slices; key slices {keys}"
        return Figure(svg(canvas), alt, f"Above 0 speaks for {explanation.event}. Dotted: key slices by rank.")


def key_slice_figure(volume: Volume, explanation: SeriesExplanation, target: str, key: KeySlice) -> Figure:
    """Show a key slice with the activation over it, cut to what the networks were prepared from."""
    coloured = _body(volume, explanation, key_slice_picture(volume, explanation, target, key))
    picture = _resized(coloured, volume, _PICTURE_WIDTH)
    mark_right(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    place = key.source
    name = f"slice {place.index + 1} of {volume.hu.shape[0]}"
    instance = "" if place.instance_number is None else f", instance {place.instance_number}"
    caption = f"{key.rank}: {name}{instance}, z = {place.position_mm[2]:.0f} mm, attribution {key.attribution:+.2g}"
    alt = f"{target}, key slice {key.rank}: {name}" + (" with activation" if explanation.has_maps else "")
    return Figure(source, alt, caption.replace("-", "−"))


def _draw_strip(axes: Axes, strip: Strip, depth: int) -> None:
    axes.imshow(strip, cmap="gray", vmin=0, vmax=255, extent=(0.5, depth + 0.5, 0, 1), aspect="auto")
    axes.tick_params(bottom=False, labelbottom=False, left=False, labelleft=False)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _body(volume: Volume, explanation: SeriesExplanation, plane: Num[np.ndarray, "H W *channels"]) -> np.ndarray:
    """Cut a slice to what was prepared of it."""
    _, _, h0, h1, w0, w1 = explanation.grid.span
    height, width = volume.hu.shape[1:]
    rows = slice(max(0, int(h0)), min(height, int(np.ceil(h1))))
    return plane[rows, max(0, int(w0)) : min(width, int(np.ceil(w1)))]


def _resized(picture: UInt8[np.ndarray, "H W *channels"], volume: Volume, width: int) -> Image.Image:
    """Bring a picture to a width, with the true ratio of its sides."""
    square = to_square_pixels(picture, volume, 1)
    return square.resize((width, max(1, round(width * square.height / square.width))), Image.Resampling.BILINEAR)
