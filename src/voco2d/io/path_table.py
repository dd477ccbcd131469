"""Reads a table of paths: a CSV file with a column `path`, and ids for those files where their names are none.

A path may be a folder of several series. Patient and study of its line are then those of all of them; its series_id is
that of no single one, so each keeps the id it has by itself.
"""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from voco2d.errors import UsageError
from voco2d.io.presence import why_absent
from voco2d.io.small_text import read_small_text
from voco2d.io.source import Rejection, Source
from voco2d.separator import separator

_log = logging.getLogger(__name__)
_PATH_COLUMNS = ("path", "image", "file")


@dataclass(frozen=True)
class Listed:
    """One line of the table.

    Args:
        path: File or folder, relative ones taken from the table's folder.
        patient_id: `None` where the table doesn't say.
        study_id: Likewise.
        series_id: Likewise; it is meant for a path with one series.
    """

    path: Path
    patient_id: str | None
    study_id: str | None
    series_id: str | None


def read_path_table(table: Path) -> tuple[list[Listed], list[Rejection]]:
    """Read the table.

    Args:
        table: CSV with a column `path` (or `image`, or `file`); `patient_id`, `study_id` and `series_id` are
            optional, further columns are left out. A semicolon or tab may separate columns.

    Returns:
        What is there, in the order of the table and each path once, and a rejection for each line whose path is not.

    Raises:
        UsageError: When the file is no such table.
    """
    columns, rows = _read_rows(table)
    column = next((name for name in _PATH_COLUMNS if name in columns), None)
    if column is None:
        raise UsageError(f"{table}: no table of paths; it needs a column {', '.join(_PATH_COLUMNS[:-1])} or file")
    if not rows:
        raise UsageError(f"{table}: a table of paths without rows; add a line for each scan")
    found: dict[Path, Listed] = {}
    missing = []
    for number, row in enumerate(rows, start=2):
        name = (row.get(column) or "").strip()
        path = table.parent / name
        reason = why_absent(path) if name else "no path"
        if reason:
            missing.append(Rejection(str(path if name else table), f"line {number} of {table.name}: {reason}"))
        else:
            listed = Listed(path, *(_value(row, key) for key in ("patient_id", "study_id", "series_id")))
            if found.setdefault(path, listed) != listed:
                raise UsageError(f"{table}: line {number} gives a path of an earlier line other ids; mend the table")
    return list(found.values()), missing


def name_sources(sources: Sequence[Source], listed: Sequence[Listed]) -> list[Source]:
    """Give sources the ids that a table has for them or for the nearest folder they lie in.

    Args:
        sources: What was found at the paths of the table, and elsewhere.
        listed: Lines of the table.
    """
    by_path = {line.path.absolute(): line for line in listed}
    lines = [_line_of(source, by_path) for source in sources]
    # the stacks of one series share its id and are told apart by their numbers
    series = Counter(line for source, line in zip(sources, lines, strict=True) if source.part[0] == 1)
    crowded = {line for line, count in series.items() if line is not None and line.series_id and count > 1}
    if crowded:
        _log.warning("series_id not used of %d paths in the table that hold several series", len(crowded))
    return [
        source if line is None else _named(source, line, is_alone=line not in crowded)
        for source, line in zip(sources, lines, strict=True)
    ]


def _line_of(source: Source, by_path: dict[Path, Listed]) -> Listed | None:
    if not by_path:
        return None
    places = [place.absolute() for place in (source.path, *source.path.parents, *source.files[:1])]
    return next((by_path[place] for place in places if place in by_path), None)


def _named(source: Source, line: Listed, is_alone: bool) -> Source:
    return replace(
        source,
        patient_id=line.patient_id or source.patient_id,
        study_id=line.study_id or source.study_id,
        series_id=(line.series_id if is_alone else None) or source.series_id,
    )


def _read_rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the names of the columns, and the lines below them."""
    try:
        text = read_small_text(table, "utf-8-sig")
        header = next(csv.reader(StringIO(text, newline="")), [])
        reader = csv.DictReader(StringIO(text, newline=""), delimiter=separator(header))
        return list(reader.fieldnames or []), list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table}: can't be read as a CSV table of paths ({type(error).__name__})") from error


def _value(row: dict[str, str], column: str) -> str | None:
    return (row.get(column) or "").strip() or None
