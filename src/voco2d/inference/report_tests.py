"""The table of tests of a comparison: differences, p-values and what is left of them after Holm's correction."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from voco2d.evaluation.comparison import compare_aligned
from voco2d.evaluation.delong import compare_areas
from voco2d.evaluation.holm import holm
from voco2d.evaluation.pairing import Paired
from voco2d.inference.report_page import Cell, Row, Table, scored

_RSNA_METRICS: Final = {
    "rsna": "RSNA score ↓",
    "rsna_organs": "RSNA of three organs ↓",
    "map": "mAP, 8 injuries",
    "precision": "precision, 8 injuries",
    "recall": "recall, 8 injuries",
}
_METRICS: Final = {"score": "score ↓", "map": "mAP", "precision": "precision", "recall": "recall"}


def tests_table(arms: Mapping[str, Paired], resamples: int, permutations: int, seed: int) -> Table:
    """Test each arm against the first: headline scores by permutation, areas of injury against healthy by DeLong.

    Args:
        arms: At least two; one row a patient, the same in all and in one order.
        resamples: Of the differences' intervals.
        permutations: Of the tests.
        seed: Of both.
    """
    first, *others = arms
    metrics = _RSNA_METRICS if arms[first].targets.is_rsna else _METRICS
    found: list[tuple[str, float, float, float, float]] = []
    for name in others:
        against = f"{name} minus {first}" if len(others) > 1 else ""
        rows = compare_aligned([arms[first]], [arms[name]], list(metrics), resamples, seed, permutations=permutations)
        found += [(f"{metrics[r.metric]} {against}", r.difference, r.low, r.high, r.p) for r in rows]
        found += [(f"{title} {against}", *values) for title, values in _areas(arms[first], arms[name])]
    adjusted = holm([row[-1] for row in found])
    cells: list[Row] = [
        (title.strip(), _difference(difference, low, high), _p(p), Cell(_p(corrected), strong=_clear(corrected)))
        for (title, difference, low, high, p), corrected in zip(found, adjusted, strict=True)
    ]
    caption = (
        f"p: two-sided, of {permutations} exchanges of patients between the arms (areas: DeLong's test). Corrected: by "
        "Holm's method over this table; in bold below 0.05. Small print: 95 % intervals, not corrected."
    )
    return Table(("score", f"difference to {first}", "p", "p corrected"), tuple(cells), caption)


def _areas(first: Paired, second: Paired) -> list[tuple[str, tuple[float, float, float, float]]]:
    areas = []
    word = "injured" if first.targets.is_rsna else "not of the first class"
    for name in first.targets.scored:
        injured = first.labelled(name)[1] > 0
        if 2 <= injured.sum() <= len(injured) - 2:
            scores = (1 - arm.labelled(name)[0][:, 0] for arm in (first, second))
            test = compare_areas(injured, *scores)
            areas.append((f"ROC AUC {word}, {name}", (test.difference, test.low, test.high, test.p)))
    return areas


def _difference(value: float, low: float, high: float) -> Cell:
    return Cell("undefined") if np.isnan(value) else scored(value, (low, high), sign=True)


def _p(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "undefined"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _clear(value: float | None) -> bool:
    return value is not None and value < 0.05
