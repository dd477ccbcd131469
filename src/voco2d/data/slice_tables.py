"""Tables about single slices of the source: findings as RSNA 2023 gives them, and how visible organs are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.tables import normalise_ids, read_text_table

FINDINGS: Mapping[str, str] = {"Bowel": "bowel", "Active_Extravasation": "extravasation"}
"""`injury_name` of RSNA 2023's `image_level_labels.csv` → the target it is a sign of."""

_KEYS = ("patient_id", "series_id", "instance_number")

SeriesKey = tuple[str, str]
"""Patient and series."""


@dataclass(frozen=True)
class Visibility:
    """How visible organs are on slices.

    Args:
        organs: Their names.
        shares: Series → instance number → a share 0…1 for each organ.
    """

    organs: tuple[str, ...]
    shares: Mapping[SeriesKey, Mapping[int, tuple[float, ...]]]


def read_findings(path: Path) -> dict[SeriesKey, dict[str, set[int]]]:
    """Read the instance numbers that show a finding: series → target → numbers.

    Args:
        path: CSV as RSNA 2023's `image_level_labels.csv`: patient_id, series_id, instance_number, injury_name.

    Raises:
        UsageError: There is no such file.
        LabelError: A column or an id is missing, an instance number is no whole number, or a name is unknown.
    """
    table = _read(path, "injury_name")
    unknown = sorted(set(table["injury_name"].fillna("").str.strip()) - set(FINDINGS))
    if unknown:
        raise LabelError(f"{path}: injury_name holds {', '.join(map(repr, unknown))}; use {' or '.join(FINDINGS)}")
    shown: dict[SeriesKey, dict[str, set[int]]] = {}
    for patient, series, number, name in table[[*_KEYS, "injury_name"]].itertuples(index=False):
        shown.setdefault((patient, series), {}).setdefault(FINDINGS[name.strip()], set()).add(number)
    return shown


def read_visibility(path: Path) -> Visibility:
    """Read how visible organs are: a CSV with patient_id, series_id, instance_number and a column an organ, 0…1.

    Raises:
        UsageError: There is no such file.
        LabelError: A column or an id is missing, or a share is no number 0…1.
    """
    table = _read(path)
    organs = tuple(str(column) for column in table.columns if column not in _KEYS)
    shares = table[list(organs)].apply(pd.to_numeric, errors="coerce")
    if not organs or not ((shares >= 0) & (shares <= 1)).all(axis=None):
        raise LabelError(f"{path}: wants a column an organ besides {', '.join(_KEYS)}, each share 0…1; correct it")
    by_series: dict[SeriesKey, dict[int, tuple[float, ...]]] = {}
    for (patient, series, number), values in zip(
        table[list(_KEYS)].itertuples(index=False), shares.to_numpy(float), strict=True
    ):
        by_series.setdefault((patient, series), {})[number] = tuple(values.tolist())
    return Visibility(organs, by_series)


def _read(path: Path, *further: str) -> pd.DataFrame:
    wanted = f"give a CSV with {', '.join([*_KEYS, *further])}"
    if not path.is_file():
        raise UsageError(f"{path}: no such file; {wanted}")
    table = read_text_table(path, wanted)
    missing = [column for column in (*_KEYS, *further) if column not in table]
    if missing:
        raise LabelError(f"{path}: no column {', '.join(missing)}; {wanted}")
    for column in ("patient_id", "series_id"):
        table[column] = normalise_ids(table[column])
    numbers = pd.to_numeric(table["instance_number"], errors="coerce")
    if (numbers.isna() | (numbers % 1 != 0) | (table["patient_id"] == "") | (table["series_id"] == "")).any():
        raise LabelError(f"{path}: an id is empty or an instance_number is no whole number; correct it")
    table["instance_number"] = numbers.astype("int64")
    return table
