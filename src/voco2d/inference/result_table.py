"""Lays results out as the table of predictions that `voco2d evaluate` reads."""

from collections.abc import Sequence

import pandas as pd

from voco2d.inference.results import DECIMALS, SeriesResult, StudyResult
from voco2d.targets import CLASS_COLUMNS

PREDICTION_COLUMNS: tuple[str, ...] = ("patient_id", "series_id", *CLASS_COLUMNS, "status", "reason")


def prediction_table(studies: Sequence[StudyResult]) -> pd.DataFrame:
    """Lay out results as `PREDICTION_COLUMNS`, one row a series; classes are empty where it was not assessed."""
    return pd.DataFrame(prediction_rows(studies), columns=list(PREDICTION_COLUMNS))


def prediction_rows(studies: Sequence[StudyResult]) -> list[dict[str, str | float]]:
    """Return the rows of `prediction_table`; where nothing was assessed the classes are left out."""
    return [_row(study, entry) for study in studies for entry in study.series]


def _row(study: StudyResult, entry: SeriesResult) -> dict[str, str | float]:
    probabilities, _ = study.series_answer(entry)
    return {
        "patient_id": entry.patient_id,
        "series_id": entry.series_id,
        **{name: round(value, DECIMALS) for name, value in (probabilities or {}).items()},
        "status": entry.status,
        "reason": entry.reason,
    }
