"""Reads a table of paths: a CSV file with a column `path`, and ids for those files where their names are none."""

import csv
from dataclasses import dataclass
from pathlib import Path

from voco2d.errors import UsageError
from voco2d.io.source import Rejection

_PATH_COLUMNS = ("path", "image", "file")


@dataclass(frozen=True)
class Listed:
    """One line of the table.

    Args:
        path: File or folder, relative ones taken from the table's folder.
        patient_id: `None` where the table doesn't say.
        series_id: Likewise.
    """

    path: Path
    patient_id: str | None
    series_id: str | None


def read_path_table(table: Path) -> tuple[list[Listed], list[Rejection]]:
    """Read the table.

    Args:
        table: CSV with a column `path` (or `image`, or `file`); `patient_id` and `series_id` are optional, further
            columns are left out.

    Returns:
        What is there, in the order of the table and each path once, and a rejection for each line whose path is not.

    Raises:
        UsageError: When the file is no such table.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table}: can't be read as a CSV table of paths ({type(error).__name__})") from error
    column = next((name for name in _PATH_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise UsageError(f"{table}: no table of paths; it needs a column {', '.join(_PATH_COLUMNS[:-1])} or file")
    found: dict[Path, Listed] = {}
    missing = []
    for number, row in enumerate(rows, start=2):
        name = (row.get(column) or "").strip()
        path = table.parent / name
        reason = _why_not(path) if name else "no path"
        if reason:
            missing.append(Rejection(str(path if name else table), f"line {number} of {table.name}: {reason}"))
        else:
            listed = Listed(path, _value(row, "patient_id"), _value(row, "series_id"))
            if found.setdefault(path, listed) != listed:
                raise UsageError(f"{table}: line {number} gives a path of an earlier line other ids; mend the table")
    return list(found.values()), missing


def _value(row: dict[str, str], column: str) -> str | None:
    return (row.get(column) or "").strip() or None


def _why_not(path: Path) -> str:
    try:
        return "" if path.exists() else "missing"
    except (OSError, ValueError) as error:
        return f"can't be opened ({type(error).__name__})"
