"""Reads the table of series of the RSNA 2023 competition."""

from pathlib import Path

import numpy as np
import pandas as pd

from voco2d.errors import LabelError
from voco2d.io.rsna_layout import RsnaRoot
from voco2d.separator import separator

META_COLUMNS = ("patient_id", "series_id", "aortic_hu", "incomplete_organ")
"""Columns of the table of series, and of what `read_series_meta` returns."""


def read_series_meta(root: RsnaRoot) -> pd.DataFrame:
    """Read the table of series of a root; a root without one gives a table without rows.

    Returns:
        As `read_series_table`.

    Raises:
        LabelError: As `read_series_table`.
    """
    if root.series_meta is None:
        return _typed(pd.DataFrame(columns=list(META_COLUMNS), dtype=str))
    return read_series_table(root.series_meta)


def read_series_table(path: Path) -> pd.DataFrame:
    """Read and check a table of series in the layout of `train_series_meta.csv`.

    `aortic_hu` is kept as it is, -1024 too, which one real series has where nothing was measured.

    Args:
        path: CSV with the columns of `META_COLUMNS`; further columns are left out.

    Returns:
        One row a series in the file's order: `patient_id` and `series_id` as text, `aortic_hu` in HU (float64, NaN
        where there is none), `incomplete_organ` 0, 1 or missing (Int64).

    Raises:
        LabelError: It can't be read, lacks a column, an id is empty, a series comes twice, `aortic_hu` is no number
            or `incomplete_organ` neither 0 nor 1. Rows are counted from 1 below the header.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        table = pd.read_csv(path, dtype=str, skipinitialspace=True, sep=separator([str(name) for name in header]))
    except (ValueError, OSError) as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise LabelError(f"{path}: not a CSV table; give one with the columns {', '.join(META_COLUMNS)}") from error
    missing = [column for column in META_COLUMNS if column not in table]
    if missing:
        raise LabelError(f"{path}: lacks the column(s) {', '.join(missing)}; the competition's table has them all")
    table = table[list(META_COLUMNS)]
    table = table.assign(**{name: table[name].fillna("").str.strip() for name in ("patient_id", "series_id")})
    for name in ("patient_id", "series_id"):
        _refuse(table[name] == "", path, f"an empty {name}", "fill it in or delete the row")
    twice = table.duplicated(["patient_id", "series_id"])
    _refuse(twice, path, "a series that was there before", "keep one row a series")
    organ = pd.to_numeric(table["incomplete_organ"], errors="coerce")
    wrong = table["incomplete_organ"].notna() & ~organ.isin([0, 1])
    _refuse(wrong, path, "an incomplete_organ that is neither 0 nor 1", "write 0 or 1, or leave it empty")
    hu = pd.to_numeric(table["aortic_hu"], errors="coerce")
    wrong = (table["aortic_hu"].notna() & hu.isna()) | np.isinf(hu)
    _refuse(wrong, path, "an aortic_hu that is no number", "write HU, or leave it empty")
    return _typed(table)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    ids = {name: table[name].astype(object) for name in ("patient_id", "series_id")}
    hu = pd.to_numeric(table["aortic_hu"]).astype(np.float64)
    organ = pd.to_numeric(table["incomplete_organ"]).astype("Int64")
    return table.assign(**ids, aortic_hu=hu, incomplete_organ=organ).reset_index(drop=True)


def _refuse(wrong: pd.Series, path: Path, what: str, way_out: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise LabelError(f"{path}: row {rows[0] + 1}{more} has {what}; {way_out}")
