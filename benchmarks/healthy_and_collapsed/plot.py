"""Draws the logs of a healthy and a collapsed run side by side: plot.py HEALTHY COLLAPSED PNG."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voco2d.training.alarm import Alarm, Symptom
from voco2d.training.symptoms import AlarmArgs

CHARTS = {
    "loss": ("loss", None),
    "localisation_accuracy": ("localisation accuracy", (0.0, 1.0)),
    "effective_rank": ("effective rank", None),
    "feature_std": ("feature deviation", (0.0, 1.1)),
    "similarity_std": ("deviation of similarities", (0.0, None)),
}
COLORS = ("#0072B2", "#D55E00")
ARGS = AlarmArgs(patience_steps=50, chance_steps=200)
"""Shorter than the defaults, as the runs are."""


def main(runs: list[Path], out: Path) -> None:
    """Draw `runs` into `out`."""
    logs = {run.stem: [json.loads(line) for line in run.read_text().splitlines()] for run in runs}
    canvas = Figure(figsize=(12, 6), layout="constrained")
    grid = canvas.subplots(2, 4)
    for axes, (key, (title, limits)) in zip(grid.ravel(), CHARTS.items(), strict=False):
        for color, (name, log) in zip(COLORS, logs.items(), strict=True):
            steps = [record["step"] for record in log]
            axes.plot(
                steps, [np.nan if record[key] is None else record[key] for record in log], color=color, label=name
            )
        axes.set(title=title, xlabel="step")
        if limits:
            axes.set_ylim(*limits)
    chance = next(iter(logs.values()))
    grid[0, 1].axhline(np.mean([record["localisation_chance"] for record in chance]), color="#777777", ls="--", lw=1)
    grid[0, 0].legend(frameon=False)
    for axes, (name, log) in zip(grid.ravel()[len(CHARTS) :], logs.items(), strict=False):
        histogram(axes, name, log)
    verdict(grid.ravel()[-1], {name: symptoms(log) for name, log in logs.items()})
    canvas.savefig(out, dpi=90)


def histogram(axes: Axes, name: str, log: list[dict[str, Any]]) -> None:
    """Draw how the similarities of a run are spread, a column a record."""
    shares = np.array([record["similarity_histogram"] for record in log])
    steps = np.array([record["step"] for record in log])
    edges = np.concatenate([[2 * steps[0] - steps[1]], steps])
    axes.pcolormesh(edges, np.linspace(-1, 1, shares.shape[1] + 1), shares.T, cmap="Greys", vmin=0, vmax=1)
    axes.set(title=f"similarities, {name}", xlabel="step", ylabel="cosine")


def symptoms(log: list[dict[str, Any]]) -> list[Symptom]:
    """Return what the alarm says of a log."""
    alarm = Alarm(ARGS, warmup_steps=20)
    return [symptom for record in log for symptom in alarm.check(record)]


def verdict(axes: Axes, told: dict[str, list[Symptom]]) -> None:
    """Write what the alarm says."""
    axes.set_axis_off()
    axes.set_title("the alarm says")
    lines = [
        f"{name}: {', '.join(f'{s.name} at step {s.step}' for s in found) or 'nothing'}" for name, found in told.items()
    ]
    axes.text(0, 0.9, "\n\n".join(lines).replace(", ", ",\n  "), va="top", fontsize=10, transform=axes.transAxes)


if __name__ == "__main__":
    main([Path(sys.argv[1]), Path(sys.argv[2])], Path(sys.argv[3]))
