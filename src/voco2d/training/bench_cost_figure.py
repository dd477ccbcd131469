"""Draws what `bench_cost` measured: a panel each for time, operations, parameters and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voco2d.training.bench_cost import SUBJECTS

_ROOM = 1.6
"""Room for the words beside the longest bar."""
_PALE, _DARK, _BLUE, _ORANGE = 0.45, 1.0, "#0072B2", "#D55E00"
_STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that the figure looks the same everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
}


@dataclass(frozen=True)
class _Panel:
    """One kind of cost: its title with its unit, the bars' keys with their names, and what a unit is."""

    title: str
    bars: Mapping[str, str]
    unit: float = 1.0


_BOTH = "forward and backward"
_PANELS = (
    _Panel("time, seconds", {"forward_seconds": "forward", "step_seconds": "whole step"}),
    _Panel("operations, 10¹² FLOPs", {"forward_flops": "forward", "step_flops": _BOTH}, 1e12),
    _Panel("peak memory, GB", {"forward_peak_bytes": "forward", "step_peak_bytes": "whole step"}, 1e9),
    _Panel("parameters, millions", {"encoder_parameters": "encoder"}, 1e6),
)


def draw_costs(result: Mapping[str, Any], path: Path) -> None:
    """Write the figure; bars start at zero and have their values beside them.

    Args:
        result: Of `bench_cost`.
        path: A picture whose ending names its format.
    """
    names = list(result["methods"])
    with rc_context(dict(_STYLE)):
        figure = Figure(figsize=(10, 1.6 + 1.1 * len(names)), layout="constrained")
        panels = figure.subplots(2, 2)
        for axes, panel in zip(panels.ravel(), _PANELS, strict=True):
            _draw(axes, panel, names, result["methods"])
        figure.suptitle(_words(result), fontsize=10)
        figure.savefig(path, dpi=110)


def _draw(axes: Axes, panel: _Panel, names: Sequence[str], costs: Mapping[str, Mapping[str, Any]]) -> None:
    height = 0.8 / len(panel.bars)
    for index, (key, label) in enumerate(panel.bars.items()):
        values = [costs[name][key] / panel.unit for name in names]
        places = [place + (index - (len(panel.bars) - 1) / 2) * height for place in range(len(names))]
        colors = [_ORANGE if SUBJECTS[name].is_3d else _BLUE for name in names]
        alpha = _DARK if index == len(panel.bars) - 1 else _PALE
        bars = axes.barh(places, values, height, color=colors, alpha=alpha)
        axes.bar_label(bars, [f"{value:.3g}  {label}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [SUBJECTS[name].title for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * _ROOM)
    axes.set_title(panel.title)


def _words(result: Mapping[str, Any]) -> str:
    settings, hardware = result["settings"], result["hardware"]
    place = f"{settings['threads']} threads of {hardware['processor']}" if settings["device"] == "cpu" else "one GPU"
    volumes = settings["batch_size"]
    words = f"One step on {volumes} {'volume' if volumes == 1 else 'volumes'}, {place}"
    if settings["checkpointing"] and any(SUBJECTS[name].is_3d for name in result["methods"]):
        words += "; 3D with gradient checkpointing"
    return words + ("; quick: tiny crops, not the methods" if result["quick"] else "")
