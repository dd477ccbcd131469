"""The section about a pretraining run: what was watched, by step, with the alarm's events marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from voco2d.inference.report_canvas import Axis
from voco2d.inference.report_figures import Line, Mark, share_map
from voco2d.inference.report_log import Chart, draw, gallery, is_logged, line_of, read_metrics, read_records
from voco2d.inference.report_page import Block, Bullets, Figure, Paragraph, Section

_LOSS: Final = Chart("Loss", ("loss",), "loss", "Healthy: the sum falls quickly, then slowly, and stays.")
_CHARTS: Final = (
    Chart(
        "Localisation accuracy",
        ("localisation_accuracy", "localisation_chance"),
        "share of random crops",
        "How often the base crop most like a random crop is the one it overlaps most. Healthy: it rises above chance, "
        "what always naming the most frequent base crop would score.",
        limits=(0.0, 1.0),
    ),
    Chart(
        "Effective rank",
        ("effective_rank",),
        "dimensions in use",
        "Collapse: it falls towards 1, every crop then looks the same to the network.",
    ),
    Chart("Feature deviation", ("feature_std",), "standard deviation", "Collapse: it falls towards 0."),
    Chart(
        "Similarity",
        ("similarity_mean", "similarity_std"),
        "cosine",
        "Of random crops to base crops. Collapse: the deviation falls to 0, wherever the mean is.",
    ),
    Chart("Gradient norm", ("grad_norm",), "norm", "Spikes that stay ask for a lower learning rate.", log=True),
    Chart(
        "Teacher distance",
        ("teacher_distance",),
        "share of the student's norm",
        "How far the teacher's backbone is from the student's. Healthy: small and not growing.",
    ),
    Chart("Learning rate", ("lr",), "learning rate", "The schedule as it was run."),
    Chart("Time a step", ("seconds",), "seconds", "A rise means that something else took the machine."),
    Chart(
        "Waiting for data",
        ("wait_share", "prepare_share"),
        "share of the time",
        "Near 0 the network is the limit; far above, reading is, or on a CPU windowing and cutting (prepare_share).",
        limits=(0.0, 1.0),
    ),
)
_OPTIONAL: Final = (
    Chart(
        "Steps without finite gradients",
        ("nonfinite_grads",),
        "share of steps",
        "A few at the start are normal in fp16.",
        limits=(0.0, 1.0),
    ),
    Chart(
        "Probe",
        ("probe_auroc",),
        "area under the ROC curve",
        "How well frozen features tell injured patients from others; 0.5 is chance. Healthy: it rises with training.",
        limits=(0.0, 1.0),
    ),
)
"""Charts of what most runs don't have."""
_HISTOGRAM: Final = "similarity_histogram"
_MEANINGS: Final[Mapping[str, str]] = {
    "collapse": "the features or similarities became alike, or used hardly a direction",
    "nonfinite_gradients": "most gradients were NaN or infinite",
    "chance": "random crops were not found better than by naming the most frequent base crop",
    "plateau": "neither the loss nor the localisation accuracy improved any more",
}


def pretrain_curves_section(run: Path) -> Section:
    """Draw a pretraining run: loss terms, signs of collapse, gradient, teacher, learning rate and probe by step."""
    title, log = f"Pretraining: {run.name}", read_metrics(run, "step")
    if log.empty:
        return Section(title, (Paragraph("No step has been logged in this run yet."),))
    marks = _alarms(log)
    figures, missing = [], []
    for chart in (_with_terms(log), *_CHARTS, *_OPTIONAL):
        lines = [_line(log, key) for key in chart.keys if is_logged(log, key)]
        if lines and not (chart.keys == ("nonfinite_grads",) and not log["nonfinite_grads"].any()):
            figures.append(draw(chart, "step", lines, smooth=True, marks=marks))
        if chart not in _OPTIONAL:
            missing += [key for key in chart.keys if not is_logged(log, key)]
    histogram = _histogram(run, marks)
    figures += histogram
    missing += [] if histogram else [_HISTOGRAM]
    told = f"{len(log)} lines were logged, the last at step {int(log['step'].iloc[-1])}."
    return Section(title, (Paragraph(told), _verdict(marks), *gallery(figures, missing)))


def _with_terms(log: pd.DataFrame) -> Chart:
    """Return the chart of the loss and its terms, which each method names: they stand between loss and grad_norm."""
    names = [str(name) for name in log]
    first, last = (names.index(key) if key in names else len(names) for key in ("loss", "grad_norm"))
    return Chart(_LOSS.title, (*_LOSS.keys, *names[first + 1 : last]), _LOSS.label, _LOSS.caption)


def _line(log: pd.DataFrame, key: str) -> Line:
    """Make a line; what is measured now and then, the probe, has no gaps between its points."""
    rows = log[log[key].notna()] if key.startswith("probe_") else log
    return line_of(key, rows["step"], rows[key])


def _alarms(log: pd.DataFrame) -> list[Mark]:
    if "alarm" not in log:
        return []
    told = log[log["alarm"].map(lambda entry: isinstance(entry, str))]
    return [
        Mark(name, float(step))
        for step, names in zip(told["step"], told["alarm"], strict=True)
        for name in str(names).split(", ")
    ]


def _verdict(marks: Sequence[Mark]) -> Block:
    if not marks:
        return Paragraph("The alarm has named no symptom.")
    return Bullets(
        tuple(f"Alarm at step {mark.x:g}, {mark.label}: {_MEANINGS.get(mark.label, 'see the log')}." for mark in marks)
    )


def _histogram(run: Path, marks: Sequence[Mark]) -> list[Figure]:
    """Draw the histograms of the similarities of all records that have one with as many bins as the last."""
    rows: list[tuple[float, list[Any]]] = []
    for record in read_records(run):
        step, shares = record.get("step"), record.get(_HISTOGRAM)
        if isinstance(step, int | float) and isinstance(shares, list) and shares:
            rows.append((step, shares))
    rows = sorted((row for row in rows if len(row[1]) == len(rows[-1][1])), key=lambda row: row[0])
    try:
        places = np.array([step for step, _ in rows], dtype=np.float64)
        shares = np.array([shares for _, shares in rows], dtype=np.float64)
    except (TypeError, ValueError):
        return []
    if not rows or not np.isfinite(shares).all():
        return []
    caption = "Of random crops to the base crops of their volume. Collapse: all of them in one bin or two."
    y = Axis("cosine", (-1.0, 1.0))
    return [share_map("Histogram of similarities", Axis("step"), y, places, shares, caption, marks)]
