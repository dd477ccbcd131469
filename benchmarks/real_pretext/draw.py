"""Draws the scores of the starts, each single value and the means with their intervals."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"random": "#777777", "simclr": "#D55E00", "voco2d": "#0072B2"}
TITLES = {"left_out": "patient left out", "mixed": "other blocks of the patient known"}


def draw(results: dict[str, Any], out: Path) -> None:
    """Draw ROC areas of both readings, and paired differences, to the file `out`."""
    readings = results["readings"]
    rows = max(_rows(readings[reading]["roc_auc"]) for reading in TITLES)
    figure = Figure(figsize=(12, 1.6 + 0.3 * rows), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for place, (reading, title) in zip(axes, TITLES.items(), strict=False):
        _areas(place, readings[reading]["roc_auc"], title)
    axes[0].legend(loc="upper left", bbox_to_anchor=(0, 0.93), fontsize=8)
    _differences(axes[2], readings)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8)
    figure.savefig(out, dpi=110)


def _rows(score: dict[str, Any]) -> int:
    return 1 + sum(map(len, score["single"].values()))


def _areas(place: Axes, score: dict[str, Any], title: str) -> None:
    """One line a patient and organ, a point a seed; the last line the mean over patients with its interval."""
    names = [(patient, organ) for patient, organs in score["single"].items() for organ in organs]
    for line, (patient, organ) in enumerate(names):
        for shift, (start, color) in enumerate(COLORS.items()):
            values = score["single"][patient][organ][start]
            place.plot(values, [line + 0.22 * (shift - 1)] * len(values), "o", color=color, markersize=3, alpha=0.7)
    for shift, (start, color) in enumerate(COLORS.items()):
        mean = score["macro"][start]
        low, high = mean["interval"]
        height = len(names) + 0.22 * (shift - 1)
        place.plot([low, high], [height, height], color=color)
        place.plot([mean["value"]], [height], "D", color=color, markersize=5, label=start)
    place.axhline(len(names) - 0.5, color="#bbbbbb", linewidth=0.6)
    place.axvline(0.5, color="#bbbbbb", linestyle=":", linewidth=0.8)
    labels = [f"{patient}: {organ.replace('_', ' ')}" for patient, organ in names]
    place.set_yticks(range(len(names) + 1), [*labels, "mean of patients"])
    place.invert_yaxis()
    place.set_xlim(-0.03, 1.03)
    place.set_xlabel("ROC area", fontsize=9)
    place.set_title(title, fontsize=10)


def _differences(place: Axes, readings: dict[str, Any]) -> None:
    """Paired differences with their intervals, and a small point a seed."""
    labels = []
    for reading, title in TITLES.items():
        for name, found in readings[reading]["roc_auc"]["difference"].items():
            line = len(labels)
            place.plot(found["interval"], [line, line], color="#333333")
            place.plot(found["seeds"], [line + 0.2] * len(found["seeds"]), "o", color="#333333", markersize=2.5)
            place.plot([found["value"]], [line], "D", color="#333333", markersize=5)
            labels.append(f"{name.replace(' - ', ' − ')}\n{title.split(',')[0]}")
    place.axvline(0, color="#bbbbbb", linewidth=0.8)
    place.set_yticks(range(len(labels)), labels)
    place.invert_yaxis()
    place.set_xlabel("difference of means", fontsize=9)
    place.set_title("paired differences", fontsize=10)
