"""Scores of parts of a cohort: patients with one series or several, of one site, of one contrast phase, and so on.

A score that a subgroup can't tell, since a class does not occur in it, is None, and a warning says so. Subgroups are
small and many: their intervals are wide, and one that stands out by chance is to be expected.
"""

import re
from typing import Any, Final

import numpy as np
import pandas as pd

from voco2d.errors import LabelError
from voco2d.evaluation.alignment import choose_rows
from voco2d.evaluation.measures import find_measure, measure_values
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.significance import percentile_interval, row_draws
from voco2d.evaluation.tables import ASSESSED, normalise_ids
from voco2d.targets import RSNA_2023, TargetSet

SERIES_COUNT: Final = "series_count"
_MEANS: Final = ("map", "precision", "recall", "specificity")
_MOST_VALUES: Final = 6
"""Numeric columns with more values than these are cut into three parts of equal size."""
_SEVERAL: Final = "several"


def subgroup_metrics(targets: TargetSet = RSNA_2023) -> tuple[str, ...]:
    """Name the scores of subgroups, see `measures`."""
    if targets.is_rsna:
        return ("rsna", "rsna_organs", *_MEANS, "any_injury.roc_auc")
    return ("score", *_MEANS)


def subgroup_scores(
    paired: Paired, groups: pd.DataFrame, resamples: int = 0, seed: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """Score each subgroup of each column.

    Args:
        paired: What is scored.
        groups: As `group_patients` returns it; patients that are not scored are left out.
        resamples: Of 95 % intervals by patient; 0 for none.
        seed: Of the resamples.

    Returns:
        Column → value → `n_rows`, `n_patients` and a value a name of `subgroup_metrics`, None where undefined; with
        `resamples` also `intervals` {name: [low, high] or None}. And the warnings.

    Raises:
        LabelError: No scored patient has a row in `groups`.
    """
    of_rows = groups.reindex(list(paired.patient_ids))
    if of_rows.isna().all(axis=None):
        raise LabelError("subgroups: none of the scored patients has a value there; give the table of this cohort")
    found: dict[str, Any] = {}
    warnings = []
    for column in of_rows:
        values = of_rows[column]
        missing = len(set(np.asarray(paired.patient_ids)[values.isna().to_numpy()]))
        if missing:
            warnings.append(f"subgroups of {column}: {missing} scored patients have no value and are in none")
        found[str(column)] = {}
        for value in sorted(values.dropna().unique(), key=_natural):
            part = choose_rows(paired, np.flatnonzero((values == value).to_numpy()))
            found[str(column)][value] = scores = _scores(part, resamples, seed)
            undefined = [name for name in subgroup_metrics(paired.targets) if scores[name] is None]
            if undefined:
                told = f"{', '.join(undefined)} undefined among {scores['n_patients']} patients: a class never occurs"
                warnings.append(f"subgroup {column} {value}: {told}")
    return found, warnings


def group_patients(table: pd.DataFrame, name: str = "subgroups") -> pd.DataFrame:
    """Turn a table of patients, or of their series, into subgroups: one text a patient and column.

    Numeric columns with more than six values are cut at their terciles, after the mean over a patient's rows. In other
    columns a patient whose rows differ is in the subgroup `several`.

    Args:
        table: `patient_id` and any other columns; `series_id` is not taken as one.
        name: What error messages call the table.

    Returns:
        Indexed by `patient_id`, a column of texts each, NaN where nothing is known.

    Raises:
        LabelError: There is no `patient_id`, or no other column.
    """
    columns = [column for column in table if column not in ("patient_id", "series_id")]
    if "patient_id" not in table or not columns:
        raise LabelError(f"{name}: takes patient_id and at least one column more; it has {', '.join(map(str, table))}")
    patients = normalise_ids(table["patient_id"]).to_numpy()
    groups = {}
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        is_number = bool((numbers.notna() == table[column].notna()).all())
        if is_number and numbers.nunique() > _MOST_VALUES:
            groups[str(column)] = _terciles(numbers.groupby(patients).mean())
        else:
            groups[str(column)] = table[column].groupby(patients).agg(_common)
    return pd.DataFrame(groups).rename_axis("patient_id")


def known_groups(predictions: pd.DataFrame, groups: pd.DataFrame | None = None) -> pd.DataFrame | None:
    """Add what the predictions tell by themselves: of how many series a patient was graded, where that differs.

    Without `series_id` each row is taken as a series.

    Args:
        predictions: As `tables.check_predictions` returns them.
        groups: As `group_patients` returns them; a column `series_count` there is kept.

    Returns:
        The subgroups, or None where nothing is known.
    """
    graded = predictions[predictions["status"] == ASSESSED] if "status" in predictions else predictions
    if "series_id" in graded:
        graded = graded.drop_duplicates(["patient_id", "series_id"])
    counts = graded.groupby("patient_id").size()
    if counts.nunique() < 2 or (groups is not None and SERIES_COUNT in groups):
        return groups
    column = counts.astype(str).astype(object).rename(SERIES_COUNT)
    return column.to_frame() if groups is None else groups.join(column, how="outer")


def _scores(part: Paired, resamples: int, seed: int) -> dict[str, Any]:
    names = subgroup_metrics(part.targets)
    measures = [find_measure(name, part.targets) for name in names]
    points = measure_values(part, measures, np.ones((len(part), 1)))
    values = {name: float(value[0]) for name, value in points.items()}
    scores: dict[str, Any] = {"n_rows": len(part), "n_patients": len(set(part.patient_ids))}
    scores |= {name: None if np.isnan(value) else value for name, value in values.items()}
    if resamples:
        drawn = [measure_values(part, measures, times) for times in row_draws(part, resamples, seed)]
        scores["intervals"] = {name: _interval(values[name], [d[name] for d in drawn]) for name in names}
    return scores


def _interval(value: float, draws: list[np.ndarray]) -> list[float] | None:
    low, high = percentile_interval(value, np.concatenate(draws))
    return None if np.isnan(low) else [low, high]


def _terciles(values: pd.Series) -> pd.Series:
    low, high = values.quantile([1 / 3, 2 / 3])
    titles = f"up to {low:.4g}", f"{low:.4g} to {high:.4g}", f"above {high:.4g}"
    texts = np.select([values <= low, values <= high], titles[:2], titles[2])
    return pd.Series(texts, index=values.index, dtype=object).where(values.notna())


def _common(values: pd.Series) -> Any:
    known = values.dropna()
    texts = set(normalise_ids(known)) if len(known) else set()
    return np.nan if not texts else texts.pop() if len(texts) == 1 else _SEVERAL


def _natural(value: str) -> tuple[float, int, str]:
    """Order numbers and ranges by where they begin, and other texts after them."""
    number = re.search(r"-?\d+(\.\d+)?(e[-+]?\d+)?", value)
    if number is None or not re.fullmatch(r"(up to |above )?-?[\d.e+-]+( to -?[\d.e+-]+)?", value):
        return np.inf, 0, value
    return float(number[0]), 0 if value.startswith("up to ") else 2 if value.startswith("above ") else 1, value
