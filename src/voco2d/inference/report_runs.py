"""Sections about a training run, made from the files in its folder."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from voco2d.inference.report_figures import Axis, Line, line_chart
from voco2d.inference.report_page import (
    Block,
    Bullets,
    Figure,
    Gallery,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    number,
)

_PRIVATE = ("host",)
"""Entries of environment.json that a page which is passed on need not tell."""
_TEXT_LIMIT = 160


@dataclass(frozen=True)
class _Chart:
    title: str
    keys: tuple[str, ...]
    label: str
    caption: str
    log: bool = False
    limits: tuple[float, float] | None = None


_PRETRAIN_CHARTS = (
    _Chart(
        "Loss", ("loss", "intra", "inter", "reg"), "loss", "Healthy: the sum falls quickly, then slowly, and stays."
    ),
    _Chart(
        "Localisation accuracy",
        ("localisation_accuracy",),
        "share of random crops",
        "How often the base crop most like a random crop is the one it overlaps most. Healthy: it rises above chance, "
        "which is one over the number of base crops.",
        limits=(0.0, 1.0),
    ),
    _Chart(
        "Effective rank",
        ("effective_rank",),
        "dimensions in use",
        "Collapse: it falls towards 1, every crop then looks the same to the network.",
    ),
    _Chart("Feature deviation", ("feature_std",), "standard deviation", "Collapse: it falls towards 0."),
    _Chart("Similarity", ("similarity_mean",), "mean cosine", "Collapse: it climbs towards 1 for all pairs of crops."),
    _Chart("Gradient norm", ("grad_norm",), "norm", "Spikes that stay ask for a lower learning rate.", log=True),
    _Chart("Learning rate", ("lr",), "learning rate", "The schedule as it was run."),
)
_FINETUNE_CHARTS = (
    _Chart("Training loss", ("train_loss",), "loss", "A line a fold."),
    _Chart("Validation loss", ("val_loss",), "loss", "Rising while the training loss falls: overfitting."),
    _Chart(
        "Validation RSNA score", ("val_rsna",), "RSNA score", "Lower is better; the best epoch of each fold is kept."
    ),
)


def settings_section(run: Path) -> Section:
    """Tell what a run was made with: `config.yaml` and the telling part of `environment.json`."""
    blocks: list[Block] = []
    for title, tree in (("Configuration", _read_yaml(run / "config.yaml")), ("Environment", read_environment(run))):
        rows = tuple((key, _shortened(value)) for key, value in _flat(tree or {}) if key not in _PRIVATE)
        if rows:
            blocks += [Heading(title), Table(("key", "value"), rows)]
        else:
            blocks.append(Paragraph(f"{title}: not recorded in this run's folder."))
    return Section(f"Settings of {run.name}", tuple(blocks))


def pretrain_curves_section(run: Path) -> Section:
    """Draw a pretraining run: loss terms, signs of collapse, gradient and learning rate by step."""
    log = _read_metrics(run, "step")
    if log.empty:
        return Section(f"Pretraining: {run.name}", (Paragraph("No step has been logged in this run yet."),))
    log = log.sort_values("step", kind="stable")
    figures, missing = [], []
    for chart in _PRETRAIN_CHARTS:
        lines = [_line(key, log["step"], log[key]) for key in chart.keys if _is_logged(log, key)]
        missing += [key for key in chart.keys if not _is_logged(log, key)]
        if lines:
            figures.append(_draw(chart, "step", lines, smooth=True))
    told = f"{len(log)} lines were logged, the last at step {int(log['step'].iloc[-1])}."
    return Section(f"Pretraining: {run.name}", (Paragraph(told), *_gallery(figures, missing)))


def finetune_curves_section(run: Path) -> Section:
    """Draw a fine-tuning run: losses and validation score by epoch, a line a fold, and the best epoch of each."""
    log = _read_metrics(run, "epoch")
    if log.empty:
        return Section(f"Fine-tuning: {run.name}", (Paragraph("No epoch has been logged in this run yet."),))
    log = log.assign(fold=log.get("fold", 0)).sort_values(["fold", "epoch"], kind="stable")
    figures, missing = [], []
    for chart in _FINETUNE_CHARTS:
        key = chart.keys[0]
        if not _is_logged(log, key):
            missing.append(key)
            continue
        folds = log.groupby("fold")
        lines = [_line(f"fold {fold:g}", rows["epoch"], rows[key]) for fold, rows in folds]
        figures.append(_draw(chart, "epoch", lines, smooth=False))
    return Section(f"Fine-tuning: {run.name}", (*_gallery(figures, missing), _best_epochs(log)))


def read_environment(run: Path) -> Mapping[str, Any] | None:
    """Read `environment.json`, or return None where it is missing or damaged."""
    try:
        tree = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _best_epochs(log: pd.DataFrame) -> Block:
    if not _is_logged(log, "val_rsna"):
        return Paragraph("No epoch has a validation score, so there is no best one.")
    rows: list[Row] = []
    for fold, epochs in log.groupby("fold"):
        scored = epochs.dropna(subset=["val_rsna"]).sort_values("val_rsna", kind="stable")
        best = ("undefined", "undefined")
        if len(scored):
            best = (f"{scored['epoch'].iloc[0]:g}", number(float(scored["val_rsna"].iloc[0])))
        rows.append((f"{fold:g}", f"{len(epochs)}", *best))
    header = ("fold", "epochs", "best epoch", "RSNA score there")
    return Table(header, tuple(rows), "Best epoch of each fold by its validation RSNA score, lower is better.")


def _gallery(figures: Sequence[Figure], missing: Sequence[str]) -> tuple[Block, ...]:
    blocks: list[Block] = [Gallery(tuple(figures))] if figures else []
    if missing:
        blocks.append(Bullets((f"Not recorded in this run, so not drawn: {', '.join(missing)}.",)))
    return tuple(blocks)


def _draw(chart: _Chart, x: str, lines: Sequence[Line], smooth: bool) -> Figure:
    y = Axis(chart.label, chart.limits, chart.log)
    return line_chart(chart.title, Axis(x), y, lines, chart.caption, smooth)


def _line(label: str, x: pd.Series, y: pd.Series) -> Line:
    return Line(label, x.to_numpy(np.float64), y.to_numpy(np.float64))


def _is_logged(log: pd.DataFrame, key: str) -> bool:
    return key in log and bool(np.isfinite(log[key].to_numpy(np.float64)).any())


def _read_metrics(run: Path, key: str) -> pd.DataFrame:
    """Read the lines of `metrics.jsonl` that have `key`, as numbers; a line cut by an abort is left out."""
    records = []
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get(key), int | float) and math.isfinite(record[key]):
            records.append(record)
    table = pd.DataFrame.from_records(records)
    return table.assign(**{str(column): pd.to_numeric(table[column], errors="coerce") for column in table})


def _read_yaml(path: Path) -> Mapping[str, Any] | None:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return tree if isinstance(tree, dict) else None


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of nested mappings with dotted names, as `key=value` words name them."""
    leaves = []
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        leaves += _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return leaves


def _shortened(value: Any) -> str:
    text = ", ".join(str(entry) for entry in value) if isinstance(value, list) else str(value)
    text = text or "none"
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 1]}…"
