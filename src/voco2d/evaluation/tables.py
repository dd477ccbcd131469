"""Reads and checks the two tables an evaluation needs: predictions and labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.separator import separator
from voco2d.targets import RSNA_2023, Target, TargetSet

ASSESSED: Final = "assessed"
NOT_ASSESSED: Final = "not_assessed"
_IDENTIFIERS = ("patient_id", "series_id")


def read_predictions(path: Path | str, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Read a prediction table: `patient_id[, series_id]`, the class columns, maybe `status` and `reason`.

    Args:
        path: A CSV file, compressed or not.
        targets: Whose classes are the columns.

    Returns:
        As `check_predictions`.

    Raises:
        UsageError: There is no such file.
        LabelError: As `check_predictions`, or the file is not a CSV table.
    """
    return check_predictions(_read_table(Path(path)), str(path), targets)


def read_label_table(path: Path | str, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Read a label table: `patient_id` and the class columns as 0/1, as in RSNA's `train.csv`.

    Args:
        path: A CSV file, compressed or not.
        targets: Whose classes are the columns.

    Returns:
        As `check_labels`.

    Raises:
        UsageError: There is no such file.
        LabelError: As `check_labels`, or the file is not a CSV table.
    """
    return check_labels(_read_table(Path(path)), str(path), targets)


def read_text_table(path: Path, way_out: str) -> pd.DataFrame:
    """Read a CSV with every cell as text, empty ones as NaN; a semicolon or tab may separate columns.

    Args:
        path: A file that exists.
        way_out: What the error tells to do.

    Raises:
        LabelError: It is no CSV table, or has no rows.
    """
    table = _read_csv(path, way_out, dtype=str)
    if table.empty:
        raise LabelError(f"{path}: has a header but no rows; {way_out}")
    return table


def check_predictions(table: pd.DataFrame, name: str = "predictions", targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Check a prediction table; rows keep their order and are neither merged nor renormalised here.

    A row whose `status` is `not_assessed` may leave its classes empty; without that column all rows count as assessed.

    Args:
        table: `patient_id` as a column or as the index, of any type.
        name: What error messages call the table.
        targets: Whose classes are the columns.

    Returns:
        A copy with identifiers as strings and classes as float64.

    Raises:
        LabelError: A column is missing, an id is empty, `status` is unknown, or an assessed row holds a negative or
            non-finite value or only zeros for a target. Rows are counted from 1 below the header.
    """
    table = _with_identifiers(table, name, targets.columns)
    assessed = np.ones(len(table), dtype=bool)
    if "status" in table:
        known = table["status"].isin([ASSESSED, NOT_ASSESSED]).to_numpy()
        _refuse_rows(~known, name, f"a status other than {ASSESSED} or {NOT_ASSESSED}", "write one of the two")
        assessed = (table["status"] == ASSESSED).to_numpy()
    values = _numbers(table, targets.columns)
    _refuse_rows(
        assessed & ~np.isfinite(values).all(axis=1), name, "an empty or non-finite probability", "predict again"
    )
    _refuse_rows(assessed & (values < 0).any(axis=1), name, "a negative probability", "use values of 0 to 1")
    for target in targets.values():
        total = values[:, targets.parts[target.name]].sum(axis=1)
        _refuse_rows(assessed & (total == 0), name, f"only zeros for {target.name}", "one class must be above 0")
    return table.assign(**dict(zip(targets.columns, values.T, strict=True)))


def check_labels(table: pd.DataFrame, name: str = "labels", targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Check a label table: one row a patient, exactly one class a target.

    A column `any_injury` is not read: it follows from the others. Targets other than RSNA's may also have one column
    `<target>` with the name or the number of the class, from 0 on, and a label of theirs may be missing: its cells are
    empty then.

    Args:
        table: `patient_id` as a column or as the index, of any type.
        name: What error messages call the table.
        targets: Whose classes are the columns.

    Returns:
        A copy with `patient_id` as strings and the classes as float64 0 or 1, NaN where the label is missing.

    Raises:
        LabelError: A column is missing, a patient has two rows, or a target has none or several classes set to 1.
    """
    if targets.derived is None:
        table = _with_class_columns(table, name, targets)
    table = _with_identifiers(table, name, targets.columns)
    _refuse_rows(table["patient_id"].duplicated().to_numpy(), name, "a patient that was there before", "keep one row")
    values = _numbers(table, targets.columns)
    for target in targets.values():
        part = values[:, targets.parts[target.name]]
        missing = np.zeros(len(table), dtype=bool)
        if targets.derived is None:
            missing = table[list(target.columns)].isna().all(axis=1).to_numpy()
        wrong = ~missing & ~np.isin(part, (0.0, 1.0)).all(axis=1)
        _refuse_rows(wrong, name, "a class that is neither 0 nor 1", "use 0 or 1")
        none_or_several = ~missing & (part.sum(axis=1) != 1)
        _refuse_rows(none_or_several, name, f"none or several classes of {target.name} set to 1", "set exactly one")
    return table.assign(**dict(zip(targets.columns, values.T, strict=True)))


def normalise_ids(column: pd.Series) -> pd.Series:
    """Write ids as text without blanks around them, empty where there is none.

    Where all ids end in ".0", as pandas writes 7 if another row is empty, that is left out: 7.0 becomes 7. Everything
    else stays, leading zeros too.

    Args:
        column: Ids of any type.
    """
    ids = column.astype("string").fillna("").str.strip().astype(object)
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        return column.astype("Int64").astype("string").fillna("").astype(object)
    filled = ids[ids != ""]
    return ids.str.removesuffix(".0") if filled.str.fullmatch(r"-?\d+\.0").all() and len(filled) else ids


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV table")
    way_out = "give one with patient_id and the classes"
    return _read_csv(path, way_out, dtype=dict.fromkeys(_IDENTIFIERS, str), low_memory=False)


def _read_csv(path: Path, way_out: str, **how: Any) -> pd.DataFrame:
    try:
        header = pd.read_csv(path, nrows=0)
        table: pd.DataFrame = pd.read_csv(path, sep=separator([str(name) for name in header.columns]), **how)
    except (ValueError, OSError, EOFError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LabelError(f"{path}: not a CSV table ({reason}); {way_out}") from error
    return table


def _with_identifiers(table: pd.DataFrame, name: str, columns: Sequence[str]) -> pd.DataFrame:
    if "patient_id" not in table and table.index.name == "patient_id":
        table = table.reset_index()
    missing = [column for column in ("patient_id", *columns) if column not in table]
    if missing:
        whose = "the RSNA 2023 sample submission has them all"
        if tuple(columns) != RSNA_2023.columns:
            whose = "the targets ask for them"
        raise LabelError(f"{name}: lacks the column(s) {', '.join(missing)}; {whose}")
    if table.empty:
        raise LabelError(f"{name}: has a header but no rows; give at least one patient")
    table = table.reset_index(drop=True)
    identifiers = {column: normalise_ids(table[column]) for column in _IDENTIFIERS if column in table}
    _refuse_rows((identifiers["patient_id"] == "").to_numpy(), name, "an empty patient_id", "fill it in")
    return table.assign(**identifiers)


def _with_class_columns(table: pd.DataFrame, name: str, targets: TargetSet) -> pd.DataFrame:
    """Spread columns `<target>` that hold a class's name or number over the columns of its classes."""
    spread: dict[str, np.ndarray] = {}
    for target in targets.values():
        if target.name in table and not set(target.columns) & set(table.columns):
            spread |= _one_hot(table[target.name], target, name)
    return table.assign(**spread)


def _one_hot(column: pd.Series, target: Target, name: str) -> dict[str, np.ndarray]:
    grades = normalise_ids(column)
    numbers = {str(number): number for number in range(len(target.classes))}
    named = {grade: number for number, grade in enumerate(target.classes)}
    # classes that are called 1 and 2 are meant by name alone
    known = grades.map(named if set(named) & set(numbers) else numbers | named)
    bad = (known.isna() & (grades != "")).to_numpy()
    _refuse_rows(bad, name, f"no class of {target.name}", f"use {', '.join(target.classes)}, or leave it empty")
    values = known.to_numpy(dtype=np.float64, na_value=np.nan)
    return {title: np.where(np.isnan(values), np.nan, values == number) for number, title in enumerate(target.columns)}


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    return np.stack([pd.to_numeric(table[c], errors="coerce").to_numpy(np.float64) for c in columns], axis=1)


def _refuse_rows(bad: Any, name: str, what: str, way_out: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise LabelError(f"{name}: row {rows[0] + 1}{more} has {what}; {way_out}")
