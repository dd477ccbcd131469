"""The log of a run, `metrics.jsonl`, as a table and as charts."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voco2d.inference.report_canvas import Axis
from voco2d.inference.report_figures import Line, Mark, line_chart
from voco2d.inference.report_page import Block, Bullets, Figure, Gallery

_TEXTS = ("alarm",)
"""Entries of a record that are no numbers."""


@dataclass(frozen=True)
class Chart:
    """A chart of some entries of a log.

    Args:
        title: Stands above it.
        keys: Entries, a line each.
        label: Of the vertical axis.
        caption: What to look for.
        log: Whether the vertical axis is logarithmic.
        limits: Ends of the vertical axis.
    """

    title: str
    keys: tuple[str, ...]
    label: str
    caption: str
    log: bool = False
    limits: tuple[float, float] | None = None


def read_records(run: Path) -> list[dict[str, Any]]:
    """Read the records of `metrics.jsonl`; a line cut by an abort is left out."""
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
        if isinstance(record, dict):
            records.append(record)
    return records


def read_metrics(run: Path, key: str) -> pd.DataFrame:
    """Read the records that have `key`, sorted by it: numbers, and NaN for what is none."""
    records = [record for record in read_records(run) if isinstance(record.get(key), int | float)]
    table = pd.DataFrame.from_records([record for record in records if math.isfinite(record[key])])
    numbers = {str(name): pd.to_numeric(table[name], errors="coerce") for name in table if name not in _TEXTS}
    table = table.assign(**numbers)
    return table if table.empty else table.sort_values(key, kind="stable", ignore_index=True)


def is_logged(log: pd.DataFrame, key: str) -> bool:
    """Tell whether a log has a finite value of `key`."""
    return key in log and bool(np.isfinite(log[key].to_numpy(np.float64)).any())


def line_of(label: str, x: pd.Series, y: pd.Series) -> Line:
    """Make a line of two columns."""
    return Line(label, x.to_numpy(np.float64), y.to_numpy(np.float64))


def draw(chart: Chart, x: str, lines: Sequence[Line], smooth: bool = False, marks: Sequence[Mark] = ()) -> Figure:
    """Draw a chart over `x`."""
    y = Axis(chart.label, chart.limits, chart.log)
    return line_chart(chart.title, Axis(x), y, lines, chart.caption, smooth, marks)


def gallery(figures: Sequence[Figure], missing: Sequence[str]) -> tuple[Block, ...]:
    """Set figures side by side, and say what was not there to be drawn."""
    blocks: list[Block] = [Gallery(tuple(figures))] if figures else []
    if missing:
        blocks.append(Bullets((f"Not recorded in this run, so not drawn: {', '.join(missing)}.",)))
    return tuple(blocks)
