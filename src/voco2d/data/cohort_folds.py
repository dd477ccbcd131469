"""Folds of patients that are alike in every class and in the number of series, and folds that others have made."""

import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from voco2d.data.cohort import check_folds
from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import normalise_ids, read_text_table
from voco2d.targets import RSNA_2023, TargetSet

_log = logging.getLogger(__name__)
_MOST_SERIES = 3
"""Patients with this many series or more count as alike."""
_PUBLIC_PREFIX = "fold"

Traits = Int64[np.ndarray, "patients traits"]


def any_injury(labels: pd.DataFrame) -> pd.Series:
    """Say of each row of 0/1 class columns whether a target is not healthy, as RSNA's `any_injury`."""
    healthy = [target.columns[0] for target in RSNA_2023.values()]
    return (labels[healthy] == 0).any(axis=1).astype(np.int64).rename("any_injury")


def stratify(
    labels: pd.DataFrame, series: pd.Series, folds: int, seed: int, targets: TargetSet = RSNA_2023
) -> pd.Series:
    """Split patients into folds with like counts of every class, of RSNA's `any_injury` and of series a patient.

    Patients of like labels are dealt out one after the other; then two patients of two folds change places as long as
    that lowers the sum of squared deviations of the counts. Folds differ by one patient at most. The same patients,
    labels and seed give the same folds whatever the order of the rows.

    Args:
        labels: One row a patient: `patient_id` and the class columns, 0 or 1.
        series: Number of series by `patient_id`.
        folds: Number of folds, at least 2.
        seed: Breaks ties.
        targets: Whose classes they are.

    Returns:
        Fold number 0…folds − 1, indexed by `patient_id`, sorted.

    Raises:
        ConfigError: Fewer than 2 folds, or fewer patients than folds.
    """
    check_folds(folds, len(labels))
    table = labels.sort_values("patient_id").set_index("patient_id")[list(targets.columns)].fillna(0)
    _warn_of_rare(table, folds)
    patterns, pattern_of = np.unique(_traits(table, series, targets), axis=0, return_inverse=True)
    pattern_of = pattern_of.reshape(-1)
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[np.argsort(pattern_of[order], kind="stable")]
    numbers = np.empty(len(table), np.int64)
    numbers[order] = np.arange(len(table)) % folds
    _even_out(numbers, pattern_of, patterns, order)
    return pd.Series(numbers, index=table.index, name="fold")


def read_folds(path: Path) -> pd.Series:
    """Read folds that exist already: `patient_id, fold`, or a 0/1 column a fold, `fold1`…, with 1 where held out.

    Returns:
        Fold number from 0 on, indexed by `patient_id`, sorted; `fold1` becomes 0.

    Raises:
        UsageError: There is no such file.
        LabelError: It has neither form, a patient is missing, comes twice or is held out never or twice, or a fold
            below the last has nobody. Rows are counted from 1 below the header.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV with patient_id and fold")
    table = read_text_table(path, "give one with patient_id and fold")
    if "patient_id" not in table:
        raise LabelError(f"{path}: no column patient_id; give patient_id and fold")
    patients = normalise_ids(table["patient_id"])
    _refuse(patients == "", path, "no patient_id", "fill it in or delete the row")
    _refuse(patients.duplicated(), path, "a patient that was there before", "keep one row a patient")
    folds = pd.Series(_fold_numbers(table, path), index=pd.Index(patients, name="patient_id"), name="fold").sort_index()
    empty = sorted(set(range(folds.max() + 1)) - set(folds))
    if empty or folds.max() == 0:
        raise LabelError(
            f"{path}: folds must be numbered 0, 1, … without a gap and be two at least; it has "
            f"{', '.join(map(str, sorted(set(folds))))}"
        )
    return folds


def adopt_folds(folds: pd.Series, labels: pd.DataFrame, name: str) -> pd.Series:
    """Keep the folds of the labelled patients, every one of whom must have one.

    Args:
        folds: As `read_folds` returns.
        labels: One row a patient.
        name: What error messages call the folds.

    Raises:
        LabelError: A labelled patient has no fold, or a fold has no labelled patient.
    """
    patients = labels["patient_id"].sort_values()
    absent = int((~patients.isin(folds.index)).sum())
    if absent:
        raise LabelError(
            f"{name}: {absent} of the {len(patients)} labelled patients of the store have no fold; make the cohort "
            "anew with `voco2d cohort`, or add them"
        )
    kept = folds.loc[patients.to_list()]
    empty = sorted(set(folds) - set(kept))
    if empty:
        raise LabelError(
            f"{name}: the store has no labelled patient of fold {', '.join(map(str, empty))}; make the cohort anew "
            "with `voco2d cohort`"
        )
    if len(kept) < len(folds):
        _log.warning("%s: %d of its %d patients are not in the store", name, len(folds) - len(kept), len(folds))
    return kept


def _traits(table: pd.DataFrame, series: pd.Series, targets: TargetSet) -> Traits:
    """What folds must be alike in, 0/1 a patient: classes, any injury, and having 1, 2, or more series."""
    counts = series.reindex(table.index).fillna(1).clip(1, _MOST_SERIES).to_numpy(np.int64)
    columns = [table.to_numpy(np.int64)]
    if targets.is_rsna:
        columns.append(any_injury(table).to_numpy()[:, None])
    columns.append((counts[:, None] == np.arange(1, _MOST_SERIES + 1)).astype(np.int64))
    return np.concatenate(columns, axis=1)


def _warn_of_rare(table: pd.DataFrame, folds: int) -> None:
    rare = {str(column): int(table[column].sum()) for column in table if table[column].sum() < folds}
    absent = [column for column, count in rare.items() if not count]
    if absent:
        _log.warning("no patient has %s: nothing can be learnt or measured about that", ", ".join(absent))
    few = [f"{column} ({count})" for column, count in rare.items() if count]
    if few:
        _log.warning("fewer patients than folds have %s: some folds can't be scored on that", ", ".join(few))


def _even_out(
    numbers: Int64[np.ndarray, " n"],
    pattern_of: Int64[np.ndarray, " n"],
    patterns: Int64[np.ndarray, "u traits"],
    order: Int64[np.ndarray, " n"],
) -> None:
    """Let pairs of patients change folds, best first, until no exchange makes the counts of traits more even."""
    folds = int(numbers.max()) + 1
    have = np.zeros((folds, len(patterns)), np.int64)
    np.add.at(have, (numbers, pattern_of), 1)
    norms = (patterns**2).sum(axis=1)
    distances = norms[:, None] + norms[None, :] - 2 * patterns @ patterns.T  # (u, u)
    while True:
        counts = have @ patterns
        best = (0, 0, 0, 0, 0)
        for one, other in combinations(range(folds), 2):
            pull = patterns @ (counts[one] - counts[other])
            change = pull[None, :] - pull[:, None] + distances  # half the change of the sum of squares
            change[(have[one] == 0), :] = change[:, (have[other] == 0)] = 1
            gives, takes = divmod(int(change.argmin()), len(patterns))
            best = min(best, (int(change[gives, takes]), one, other, gives, takes))
        change_by, one, other, gives, takes = best
        if change_by >= 0:
            return
        for fold, new, pattern in ((one, other, gives), (other, one, takes)):
            have[fold, pattern] -= 1
            have[new, pattern] += 1
        first = order[(numbers[order] == one) & (pattern_of[order] == gives)][0]
        second = order[(numbers[order] == other) & (pattern_of[order] == takes)][0]
        numbers[first], numbers[second] = other, one


def _fold_numbers(table: pd.DataFrame, path: Path) -> Int64[np.ndarray, " rows"]:
    if "fold" in table:
        numbers = pd.to_numeric(table["fold"], errors="coerce")
        _refuse(~(numbers.ge(0) & (numbers % 1 == 0)), path, "a fold that is no whole number", "number folds from 0")
        whole: Int64[np.ndarray, " rows"] = numbers.to_numpy(np.int64)
        return whole
    columns = [f"{_PUBLIC_PREFIX}{number}" for number in range(1, table.shape[1] + 1)]
    columns = [column for column in columns if column in table]
    if not columns:
        raise LabelError(f"{path}: has neither a column fold nor fold1, fold2, …; add one")
    held_out = np.stack([pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in columns], axis=1)
    wrong = ~np.isin(held_out, (0, 1)).all(axis=1) | (held_out.sum(axis=1) != 1)
    _refuse(pd.Series(wrong), path, f"none or several of {columns[0]}…{columns[-1]} set to 1", "set exactly one")
    where: Int64[np.ndarray, " rows"] = held_out.argmax(axis=1).astype(np.int64)
    return where


def _refuse(wrong: pd.Series, path: Path, what: str, way_out: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise LabelError(f"{path}: row {rows[0] + 1}{more} has {what}; {way_out}")
