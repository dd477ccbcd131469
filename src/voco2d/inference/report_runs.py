"""Sections about a training run, made from the files in its folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from voco2d.inference.report_log import Chart, draw, gallery, is_logged, line_of, read_metrics
from voco2d.inference.report_page import (
    Block,
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


_FINETUNE_CHARTS = (
    Chart("Training loss", ("train_loss",), "loss", "A line a fold."),
    Chart("Validation loss", ("val_loss",), "loss", "Rising while the training loss falls: overfitting."),
    Chart(
        "Validation RSNA score", ("val_rsna",), "RSNA score", "Lower is better; the best epoch of each fold is kept."
    ),
)
_OTHER_SCORE = Chart("Validation score", ("val_score",), "score", "Lower is better; the best epoch of each is kept.")
"""In the place of the last where the targets are not RSNA's."""


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


def finetune_curves_section(run: Path) -> Section:
    """Draw a fine-tuning run: losses and validation score by epoch, a line a fold, and the best epoch of each."""
    log = read_metrics(run, "epoch")
    if log.empty:
        return Section(f"Fine-tuning: {run.name}", (Paragraph("No epoch has been logged in this run yet."),))
    log = log.assign(fold=log.get("fold", 0)).sort_values(["fold", "epoch"], kind="stable")
    figures, missing = [], []
    other = is_logged(log, "val_score")
    score = "val_score" if other else "val_rsna"
    for chart in (*_FINETUNE_CHARTS[:-1], _OTHER_SCORE if other else _FINETUNE_CHARTS[-1]):
        key = chart.keys[0]
        if not is_logged(log, key):
            missing.append(key)
            continue
        folds = log.groupby("fold")
        lines = [line_of(f"fold {fold:g}", rows["epoch"], rows[key]) for fold, rows in folds]
        figures.append(draw(chart, "epoch", lines))
    return Section(
        f"Fine-tuning: {run.name}",
        (*gallery(figures, missing), _best_epochs(log, score)),
    )


def read_environment(run: Path) -> Mapping[str, Any] | None:
    """Read `environment.json`, or return None where it is missing or damaged."""
    try:
        tree = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _best_epochs(log: pd.DataFrame, key: str) -> Block:
    if not is_logged(log, key):
        return Paragraph("No epoch has a validation score, so there is no best one.")
    rows: list[Row] = []
    for fold, epochs in log.groupby("fold"):
        scored = epochs.dropna(subset=[key]).sort_values(key, kind="stable")
        best = ("undefined", "undefined")
        if len(scored):
            best = (f"{scored['epoch'].iloc[0]:g}", number(float(scored[key].iloc[0])))
        rows.append((f"{fold:g}", f"{len(epochs)}", *best))
    title = "RSNA score" if key == "val_rsna" else "score"
    header = ("fold", "epochs", "best epoch", f"{title} there")
    return Table(header, tuple(rows), f"Best epoch of each fold by its validation {title}, lower is better.")


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
