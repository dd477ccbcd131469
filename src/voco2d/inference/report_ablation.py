"""The page of an ablation: what taking back each correction of 2D-VoCo does to localisation."""

from pathlib import Path

import numpy as np
import pandas as pd

from voco2d.inference.report_canvas import STYLE, Axis, new_canvas, svg
from voco2d.inference.report_page import Figure, Paragraph, Row, Section, Table, write_report

PAGE = "ablation.html"


def write_ablation(table: pd.DataFrame, out: Path) -> Path:
    """Write the page.

    Args:
        table: A row an arm and seed, as `training.ablation.run_ablation` gives it.
        out: The study's folder.

    Returns:
        The page.
    """
    page = out / PAGE
    first = table.iloc[0]
    told = (
        f"{table['arm'].nunique()} arms, {table['seed'].nunique()} seeds, {first['steps']} steps each. Localisation: "
        f"share of random crops of {first['volumes']} volumes of held-out patients whose most similar base crop is one "
        f"they overlap most; chance is {first['chance']:.2f}. Whatever an arm was trained with, crops are drawn alike. "
        "An interval is over volumes, of one seed's model; how much models of other seeds differ stands beside it."
    )
    blocks = (Paragraph(told), _figure(table), _table(table))
    write_report(page, "Ablation of 2D-VoCo's corrections", [Section("Localisation on unseen patients", blocks)])
    return page


def _table(table: pd.DataFrame) -> Table:
    rows: list[Row] = []
    for arm, runs in table.groupby("arm", sort=False):
        accuracies = runs["localisation_accuracy"]
        rows.append(
            (
                str(arm),
                str(runs["changed"].iloc[0]) or "nothing",
                f"{accuracies.mean():.3f}",
                f"{accuracies.min():.3f} to {accuracies.max():.3f}",
                f"{runs['low'].min():.3f} to {runs['high'].max():.3f}",
                f"{runs['effective_rank'].mean():.1f}",
                f"{runs['feature_std'].mean():.2f}",
                f"{runs['seconds_a_step'].mean():.2f}",
            )
        )
    header = (
        "arm",
        "changed",
        "localisation",
        "over seeds",
        "95 % intervals",
        "effective rank",
        "deviation",
        "s a step",
    )
    caption = "Means over seeds; the interval column spans the seeds' intervals."
    return Table(header, tuple(rows), caption)


def _figure(table: pd.DataFrame) -> Figure:
    from matplotlib import rc_context

    arms = list(dict.fromkeys(table["arm"]))
    title = "Localisation on unseen patients"
    with rc_context(STYLE):
        canvas, axes = new_canvas(title, Axis("localisation accuracy"), Axis(""))
        canvas.set_figheight(1.2 + 0.32 * len(arms))
        for row, arm in enumerate(arms):
            runs = table[table["arm"] == arm]
            shifts = np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else np.zeros(1)
            for shift, (_, run) in zip(shifts, runs.iterrows(), strict=True):
                axes.plot([run["low"], run["high"]], [row + shift] * 2, color="C0", alpha=0.6, linewidth=1.5)
                axes.plot(run["localisation_accuracy"], row + shift, "o", color="C0", markersize=4)
        axes.axvline(table["chance"].mean(), color="0.5", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(arms)), arms)
        axes.invert_yaxis()
        alt = f"{title}: a point and 95 % interval an arm and seed; {', '.join(map(str, arms))}"
        return Figure(svg(canvas), alt, "A point a seed with its 95 % interval over volumes; dotted: chance.")
