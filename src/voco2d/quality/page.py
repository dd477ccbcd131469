"""The quality page: one self-contained HTML file with a row a series, filters, plots and the quarantine."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voco2d.io.source import Rejection
from voco2d.pages import page_environment
from voco2d.quality.cohort_plot import CohortPlot, cohort_plot
from voco2d.quality.flags import EXPLANATIONS, note_flags
from voco2d.quality.histogram import COLUMNS as BIN_COLUMNS
from voco2d.quality.histogram import EDGES_HU
from voco2d.version import VERSION

if TYPE_CHECKING:
    import pandas as pd

_TEMPLATES: Final = Path(__file__).parent / "templates"

ID_COLUMNS: Final = ("patient_id", "study_id", "series_id", "source")
"""Columns that may name a patient; a page without ids leaves them out, and the paths of the quarantine too."""

_HIDDEN: Final = ("file", "source_hash", "settings_hash")
_PLOTS: Final = (
    ("n_slices", "slices"),
    ("spacing_z_mm", "slice distance, mm"),
    ("spacing_h_mm", "pixel, mm"),
    ("coverage_mm", "coverage along the body, mm"),
    ("body_share", "share of the body in its box"),
    ("noise_hu", "noise, HU"),
)


def render_page(
    table: "pd.DataFrame",
    rejections: Sequence[Rejection],
    thumbnails: str = "thumbnails/{key}.jpg",
    show_ids: bool = True,
) -> str:
    """Render the page.

    Args:
        table: A row a series: the columns of a store's index and those of `voco2d.quality.measure`. Columns may be
            missing and values may be null.
        rejections: What was not prepared, and why.
        thumbnails: Address of a series' picture, relative to the page; empty for a page without pictures.
        show_ids: Whether patient and series ids and paths are in the page.

    Returns:
        HTML that asks for nothing but the pictures; it works from a file. Whatever the table holds is shown as text.
    """
    table = table.assign(flags=_flags(table))
    columns = [name for name in table.columns if name not in _HIDDEN and (show_ids or name not in ID_COLUMNS)]
    rows = [[_plain(value) for value in row] for row in table[columns].itertuples(index=False, name=None)]
    listed = dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else {}
    data = {
        "columns": columns,
        "rows": rows,
        "bins": list(BIN_COLUMNS),
        "edges": list(EDGES_HU),
        "flags": dict(EXPLANATIONS),
        "thumbnails": thumbnails,
        "quarantine": _quarantine(rejections, show_ids),
    }
    page: str = (
        page_environment(_TEMPLATES)
        .get_template("quality.html")
        .render(
            data=_embedded(data),
            version=VERSION,
            n_series=len(rows),
            n_patients=len(set(table["patient_id"])) if "patient_id" in table else None,
            n_rejections=len(rejections),
            n_flagged=sum(bool(flags) for flags in listed.get("flags", ())),
            n_slices=sum(value for value in listed.get("n_slices", ()) if isinstance(value, int)),
            plots=_plots(listed),
            has_pictures=bool(thumbnails),
        )
    )
    return page


def reason_group(reason: str) -> str:
    """Return a reason without its numbers and quotations, so that like reasons can be counted together."""
    return re.sub(r"\d[\d.,]*", "…", re.sub(r"'[^']*'", "'…'", reason))


def _flags(table: "pd.DataFrame") -> list[str]:
    """Return the flags of each row; where a series could not be measured those of its notes are all there is."""
    empty = [""] * len(table)
    flags = table.get("flags", empty)
    notes = table.get("notes", empty)
    return [
        own if isinstance(own, str) and own else ";".join(sorted(note_flags(str(note).split("; "))))
        for own, note in zip(flags, notes, strict=True)
    ]


def _plots(columns: Mapping[str, Sequence[Any]]) -> list[CohortPlot]:
    plots = [cohort_plot(title, columns[name]) for name, title in _PLOTS if name in columns]
    return [plot for plot in plots if plot is not None]


def _quarantine(rejections: Sequence[Rejection], show_ids: bool) -> list[dict[str, Any]]:
    """Group rejections by reason, the commonest first."""
    groups: dict[str, list[list[str]]] = {}
    for rejection in rejections:
        path = str(rejection.path) if show_ids else ""
        groups.setdefault(reason_group(rejection.reason), []).append([path, rejection.reason])
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [{"reason": reason, "entries": entries} for reason, entries in ordered]


def _plain(value: Any) -> str | int | float | bool | None:
    """Turn a cell into what JSON knows; numbers keep four significant digits behind the point."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return None if str(value) in ("<NA>", "NaT") else str(value)


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that no text in it can break out of the script element with (HTML Standard, 4.12.1.3)."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
