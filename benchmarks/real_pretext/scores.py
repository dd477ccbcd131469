"""Scores predicted organ presence: single values, means, and intervals by patient and block of slices.

A table of predictions has a row a slice, organ, start and seed: `reading`, `patient`, `organ`, `slice`, `block`,
`start`, `seed`, `present` (0/1) and `score`.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from voco2d.evaluation.ranking import weighted_average_precision, weighted_roc_auc

HERE = Path(__file__).resolve().parent
METRICS: Mapping[str, Callable[..., Any]] = {
    "roc_auc": weighted_roc_auc,
    "average_precision": weighted_average_precision,
}
DRAWS = 10_000
SEED = 0


def summarise(table: pd.DataFrame, draws: int = DRAWS) -> dict[str, Any]:
    """Score each reading of a table of predictions; see the README for what the numbers are."""
    return {
        str(reading): {metric: _score(rows, METRICS[metric], draws) for metric in METRICS}
        for reading, rows in table.groupby("reading")
    }


def _score(rows: pd.DataFrame, measure: Callable[..., Any], draws: int) -> dict[str, Any]:
    starts, seeds = sorted(rows["start"].unique()), sorted(rows["seed"].unique())
    patients = sorted(rows["patient"].unique())
    generator = np.random.default_rng(SEED)
    single: dict[str, Any] = {}
    points, drawn = [], []
    for patient in patients:
        own = rows[rows["patient"] == patient]
        organs = sorted(own["organ"].unique())
        values = np.array(
            [[[_values(own, organ, start, seed, measure)[0] for seed in seeds] for organ in organs] for start in starts]
        )
        single[patient] = {
            organ: {
                "slices": int(_of(own, organ, starts[0], seeds[0]).shape[0]),
                "present": int(_of(own, organ, starts[0], seeds[0])["present"].sum()),
                **{start: values[s, o].tolist() for s, start in enumerate(starts)},
            }
            for o, organ in enumerate(organs)
        }
        points.append(values.mean(axis=1))
        drawn.append([_drawn(own, organs, starts, seeds, measure, generator, draws) for _ in patients])
    by_seed = np.mean(points, axis=0)
    chosen = generator.integers(len(patients), size=(len(patients), draws))
    slots = [np.choose(chosen[k], [drawn[p][k] for p in range(len(patients))]) for k in range(len(patients))]
    resampled = _mean(np.array(slots))
    macro = {
        start: {"value": float(by_seed[s].mean()), "interval": _interval(resampled[s]), "seeds": by_seed[s].tolist()}
        for s, start in enumerate(starts)
    }
    return {
        "macro": macro,
        "difference": _differences(starts, by_seed, resampled),
        "patients": {patients[p]: dict(zip(starts, points[p].tolist(), strict=True)) for p in range(len(patients))},
        "single": single,
        "undefined_draws": int(np.isnan(resampled[0]).sum()),
    }


def _differences(starts: list[str], by_seed: np.ndarray, resampled: np.ndarray) -> dict[str, Any]:
    """Compare each two starts on the same draws, the later in the alphabet minus the earlier."""
    found = {}
    for first, second in combinations(range(len(starts)), 2):
        values = by_seed[second] - by_seed[first]
        found[f"{starts[second]} - {starts[first]}"] = {
            "value": float(values.mean()),
            "interval": _interval(resampled[second] - resampled[first]),
            "seeds": values.tolist(),
        }
    return found


def _drawn(
    rows: pd.DataFrame, organs: list[str], starts: list[str], seeds: list[int], measure: Callable[..., Any],
    generator: np.random.Generator, draws: int,
) -> Float[np.ndarray, "starts draws"]:  # fmt: skip
    """Draw a patient's blocks with replacement and average over organs and seeds, all starts on the same draws."""
    blocks = np.unique(rows["block"])
    times = generator.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=draws)
    of_block = pd.DataFrame(times.T.astype(float), index=blocks)
    return np.array(
        [
            _mean(
                np.array([
                    np.mean([_values(rows, organ, start, seed, measure, of_block) for seed in seeds], axis=0)
                    for organ in organs
                ])
            )
            for start in starts
        ]
    )  # fmt: skip


def _values(
    rows: pd.DataFrame, organ: str, start: str, seed: int, measure: Callable[..., Any],
    of_block: pd.DataFrame | None = None,
) -> Float[np.ndarray, " draws"]:  # fmt: skip
    chosen = _of(rows, organ, start, seed)
    times = np.ones((len(chosen), 1)) if of_block is None else of_block.loc[chosen["block"]].to_numpy()
    return np.asarray(measure(chosen["present"].to_numpy() == 1, chosen["score"].to_numpy(), times))


def _of(rows: pd.DataFrame, organ: str, start: str, seed: int) -> pd.DataFrame:
    return rows[(rows["organ"] == organ) & (rows["start"] == start) & (rows["seed"] == seed)]


def _mean(values: np.ndarray) -> np.ndarray:
    """Average over the first axis what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0.0).sum(axis=0)
    return np.where(defined.any(axis=0), sums / np.maximum(defined.sum(axis=0), 1), np.nan)


def _interval(drawn: np.ndarray) -> list[float]:
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return [float(low), float(high)]
