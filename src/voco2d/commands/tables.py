"""Tables the commands read and write."""

import os
from pathlib import Path

import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import normalise_ids, read_text_table


def patient_ids(path: Path) -> list[str]:
    """Read the `patient_id` column of a CSV.

    Raises:
        UsageError: There is no such file.
        LabelError: It is no table, has no such column, or an id is missing.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV with a patient_id column")
    table = read_text_table(path, "give one with a patient_id column")
    if "patient_id" not in table:
        raise LabelError(f"{path}: no column patient_id; it has {', '.join(map(str, table.columns))}")
    missing = table["patient_id"].isna()
    if missing.any():
        raise LabelError(f"{path}: line {int(missing.argmax()) + 2} has no patient_id; fill or delete it")
    return sorted(set(normalise_ids(table["patient_id"])))


def refuse_folder(path: Path | None) -> None:
    """Say at once, and not after hours of work, that a file to be written is a folder.

    Raises:
        UsageError: It is one.
    """
    if path is not None and path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")


def refuse_unwritable(folder: Path) -> None:
    """Say at once, and not after hours of work, that nothing can be written into a folder, which may be made yet.

    Raises:
        UsageError: It is a file or lies below one, or this user may not write there.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"{there} is a file, not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: nothing can be written into {there}; name another, or change its rights")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV so that readers see the old file or the new one, never half of it."""
    write_text(path, table.to_csv(index=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file so that readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # a path that isn't UTF-8 reaches Python with surrogates, which UTF-8 can't hold
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
