"""Lays results out as the table of predictions that `voco2d evaluate` reads."""

from collections.abc import Sequence

import pandas as pd

from voco2d.inference.results import DECIMALS, SeriesResult, StudyResult
from voco2d.targets import RSNA_2023, TargetSet


def prediction_columns(targets: TargetSet = RSNA_2023) -> list[str]:
    """List the columns of a table of predictions."""
    return ["patient_id", "series_id", *targets.columns, "status", "reason"]


def prediction_table(studies: Sequence[StudyResult], targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Lay out results as `prediction_columns`, one row a series; classes are empty where it was not assessed."""
    return pd.DataFrame(prediction_rows(studies), columns=prediction_columns(targets))


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
