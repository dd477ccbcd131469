"""Injury grades of a phantom patient: drawn from the joint shares of RSNA 2023, or enriched for small cohorts."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from voco2d.targets import TARGETS

Grades = dict[str, int]
"""Target name -> index of its class; 0 is healthy."""

_ENRICHED: Mapping[str, tuple[float, ...]] = {
    "bowel": (0.65, 0.35),
    "extravasation": (0.65, 0.35),
    "kidney": (0.5, 0.25, 0.25),
    "liver": (0.5, 0.25, 0.25),
    "spleen": (0.5, 0.25, 0.25),
}


@cache
def joint_shares() -> pd.DataFrame:
    """Return the shares of the joint grades among RSNA 2023's 3,147 patients: a column a target and `share`."""
    with files(__package__).joinpath("label_shares.csv").open("r", encoding="utf-8") as file:
        return pd.read_csv(file)


def draw_grades(rng: np.random.Generator, enriched: bool) -> Grades:
    """Draw the grades of one patient.

    Args:
        rng: Source of randomness.
        enriched: Draw each target by itself, with injuries about as frequent as healthy organs.
    """
    if enriched:
        return {name: int(rng.choice(len(shares), p=shares)) for name, shares in _ENRICHED.items()}
    table = joint_shares()
    shares = table["share"].to_numpy()
    row = table.iloc[int(rng.choice(len(table), p=shares / shares.sum()))]
    return {name: int(row[name]) for name in TARGETS}


def label_row(grades: Grades) -> dict[str, int]:
    """Turn grades into the 13 class columns and `any_injury`, as 0 and 1 (RSNA 2023's `train.csv`)."""
    row = {
        column: int(grades[name] == index)
        for name, target in TARGETS.items()
        for index, column in enumerate(target.columns)
    }
    row["any_injury"] = int(any(grades.values()))
    return row
