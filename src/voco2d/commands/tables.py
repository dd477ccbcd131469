"""Tables the commands read and write."""

import os
from pathlib import Path

import pandas as pd

from voco2d.errors import LabelError, UsageError


def patient_ids(path: Path) -> list[str]:
    """Read the `patient_id` column of a CSV.

    Raises:
        UsageError: There is no such file.
        LabelError: It has no such column.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV with a patient_id column")
    table = pd.read_csv(path, dtype={"patient_id": str})
    if "patient_id" not in table:
        raise LabelError(f"{path}: no column patient_id; it has {', '.join(map(str, table.columns))}")
    return sorted(set(table["patient_id"]))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV so that readers see the old file or the new one, never half of it."""
    write_text(path, table.to_csv(index=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file so that readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
