"""Figures of a study: scores over the share of labels, and differences between arms with their intervals."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, PercentFormatter

from voco2d.evaluation.study_analysis import MEAN
from voco2d.inference.report_canvas import COLORS, STYLE, Axis, new_canvas, svg
from voco2d.inference.report_page import Figure
from voco2d.targets import RSNA_2023, TargetSet

TITLES: Final[Mapping[str, str]] = {
    "map": "mAP, 8 injuries",
    "precision": "precision, 8 injuries",
    "recall": "recall, 8 injuries",
    "roc_auc": "ROC AUC, 8 injuries",
    "rsna": "RSNA score ↓",
    "rsna_organs": "RSNA of three organs ↓",
    "map_organs9": "mAP, 9 organ classes",
    "precision_organs9": "precision, 9 organ classes",
    "recall_organs9": "recall, 9 organ classes",
}
"""Titles of the scores a study usually tells; others go by their names."""

_OTHER_TITLES: Final[Mapping[str, str]] = {"map": "mAP", "roc_auc": "ROC AUC", "score": "score ↓"}
"""Titles where the targets are not RSNA's."""

_LEGEND_LETTERS: Final = 60
"""As many fit beside each other below a chart."""

_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")


def title_of(metric: str, targets: TargetSet = RSNA_2023) -> str:
    """Return what tables and figures call a score of targets."""
    return TITLES.get(metric, metric) if targets.is_rsna else _OTHER_TITLES.get(metric, metric)


def label_efficiency(scores: pd.DataFrame, metric: str, targets: TargetSet = RSNA_2023) -> Figure:
    """Draw a score over the share of labels: an arm's mean over seeds, and a band from the worst to the best seed.

    Args:
        scores: As `evaluation.study_analysis.score_table` returns.
        metric: Which score.
        targets: What it is of.
    """
    table = scores[scores["metric"] == metric]
    fractions = sorted(set(table["fraction"]))
    title = title_of(metric, targets)
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, Axis("share of the labels"), Axis(title))
        for place, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            color, marker = COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)]
            mean = rows[rows["seed"] == MEAN].sort_values("fraction")
            seeds = rows[rows["seed"] != MEAN].groupby("fraction")["value"]
            axes.plot(mean["fraction"], mean["value"], color=color, marker=marker, markersize=4, label=str(arm))
            low, high = seeds.min(), seeds.max()
            axes.fill_between(low.index.to_numpy(), low.to_numpy(), high.to_numpy(), color=color, alpha=0.15, lw=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(fractions))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if min(fractions) >= 0.01 else None))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        columns = max(1, _LEGEND_LETTERS // (6 + max(len(str(arm)) for arm in table["arm"])))  # 6: line and marker
        canvas.legend(loc="outside lower center", ncols=columns)  # within the axes it would lie over lines
        alt = f"{title} over the share of labels; {', '.join(map(str, dict.fromkeys(table['arm'])))}"
        caption = "Mean over seeds; the band spans the seeds, each with patients, start and draw of labels of its own."
        return Figure(svg(canvas), alt, caption)


def difference_forest(significance: pd.DataFrame, metric: str, alpha: float, targets: TargetSet = RSNA_2023) -> Figure:
    """Draw the differences of a score between arms, a row a comparison, with their 95 % intervals over patients.

    Args:
        significance: As `evaluation.study_analysis.significance_table` returns.
        metric: Which score.
        alpha: Below it a corrected p-value is told apart.
        targets: What the score is of.
    """
    table = significance[significance["metric"] == metric].reset_index(drop=True)
    title = title_of(metric, targets)
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, Axis(f"difference in {title}"), Axis(""), 1.1 + 0.24 * len(table))
        for place, (_, row) in enumerate(table.iterrows()):
            sure = bool(row["p_holm"] < alpha)
            color = "#777777" if not sure else COLORS[2] if row["better"] else COLORS[1]
            axes.plot([row["low_seeds"], row["high_seeds"]], [place, place], color=color, linewidth=0.6)
            axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=1.8)
            axes.plot([row["difference"]], [place], color=color, marker="o" if sure else "|", markersize=5)
        axes.axvline(0, color="#333333", linewidth=1)
        axes.set_yticks(np.arange(len(table)), [contest_name(row) for _, row in table.iterrows()], fontsize=8)
        axes.set_ylim(len(table) - 0.5, -0.5)
        alt = f"Differences in {title} with 95 % intervals, a row a comparison"
        caption = (
            f"Green: better, red: worse, with p < {alpha:g} after Holm's correction over the table; grey: neither. "
            "Thick: 95 % over patients; thin: over patients and seeds."
        )
        return Figure(svg(canvas), alt, caption)


def contest_name(row: "pd.Series[Any]") -> str:
    """Name a comparison: two arms, and the share of labels of each where they differ."""
    fraction, other = float(row["fraction"]), float(row["other_fraction"])
    if fraction == other:
        return f"{row['arm']} − {row['other']}, {fraction:.3g}"
    return f"{row['arm']} {fraction:.3g} − {row['other']} {other:.3g}"


def seeds_interval(row: "pd.Series[Any]") -> str:
    """Write the interval of a difference over patients and seeds; nothing where it is undefined."""
    low, high = float(row["low_seeds"]), float(row["high_seeds"])
    return "" if np.isnan(low + high) else f"{low:+.3f} to {high:+.3f}".replace("-", "−")


def save_figures(figures: Sequence[tuple[str, Figure]], folder: Path) -> None:
    """Write figures as SVG files, name → `<name>.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures:
        (folder / f"{name}.svg").write_bytes(base64.b64decode(figure.source.partition("base64,")[2]))
