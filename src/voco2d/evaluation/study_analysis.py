"""The tables of a study: scores of every arm, label fraction and seed, and which differences are more than chance."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from voco2d.errors import LabelError
from voco2d.evaluation.comparison import Comparison, compare, estimate
from voco2d.evaluation.holm import holm
from voco2d.evaluation.measures import find_measure
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.study_contests import AnalysisArgs, Contest, contests
from voco2d.evaluation.tables import check_predictions
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.workers import run_jobs

KEYS: Final = ("arm", "fraction", "seed")
MEAN: Final = "mean"
"""What stands for the seed where a score is the mean over seeds."""

FLOAT_FORMAT: Final = "%.6g"
"""How probabilities are kept: significant digits, since a logarithm is taken of the smallest."""


def study_columns(targets: TargetSet = RSNA_2023) -> list[str]:
    """List the columns of the table of predictions, a row a patient and model."""
    return [*KEYS, "patient_id", *targets.columns]


def patient_table(predictions: pd.DataFrame, labels: pd.DataFrame, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Make one row a patient, sorted: the maximum over series, each target divided by its sum.

    Args:
        predictions: As `tables.check_predictions`.
        labels: Of all its patients.
        targets: What is graded.

    Returns:
        `patient_id` and the classes.
    """
    paired = pair(predictions, labels, "max", targets)
    columns = {
        column: paired.probabilities[name][:, place]
        for name, target in targets.items()
        for place, column in enumerate(target.columns)
    }
    table = pd.DataFrame({"patient_id": list(paired.patient_ids), **columns})
    return table.sort_values("patient_id", ignore_index=True)


def check_study(table: pd.DataFrame, name: str, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Check the predictions of a study, as they are read from its file.

    Raises:
        LabelError: A column is missing, a row can't be used, or a patient comes twice for one model.
    """
    missing = [column for column in study_columns(targets) if column not in table]
    if missing:
        raise LabelError(f"{name}: lacks the column(s) {', '.join(missing)}; give the table that a study wrote")
    table = check_predictions(table, name, targets)
    twice = table.duplicated([*KEYS, "patient_id"]).to_numpy()
    if twice.any():
        raise LabelError(f"{name}: row {int(twice.argmax()) + 1} repeats a patient of the same arm, fraction and seed")
    return table


def score_table(
    predictions: pd.DataFrame, labels: pd.DataFrame, args: AnalysisArgs, targets: TargetSet = RSNA_2023
) -> pd.DataFrame:
    """Score every model, and every arm's mean over seeds.

    Args:
        predictions: As `check_study` returns.
        labels: Of all its patients.
        args: Which scores.
        targets: What is graded.

    Returns:
        `arm, fraction, seed, metric, value, low, high`: a row a score, with its 95 % interval over patients; `seed` is
        `mean` for the mean over seeds. Empty where a score is undefined.
    """
    metrics = (*args.metrics, *args.further)
    rows: list[dict[str, Any]] = []
    for (arm, fraction), models in predictions.groupby(["arm", "fraction"], sort=False):
        seeds = dict(iter(models.groupby("seed", sort=True)))
        groups = {**{str(seed): [table] for seed, table in seeds.items()}, MEAN: list(seeds.values())}
        for seed, tables in groups.items():
            for found in estimate(labels, tables, metrics, args.resamples, args.seed, targets=targets):
                bounds = {"value": found.value, "low": found.low, "high": found.high}
                rows.append({"arm": arm, "fraction": fraction, "seed": seed, "metric": found.metric, **bounds})
    return pd.DataFrame(rows)


def significance_table(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    args: AnalysisArgs,
    workers: int = 1,
    targets: TargetSet = RSNA_2023,
) -> pd.DataFrame:
    """Hold arms against each other on the same patients and seeds, p-values corrected by Holm over the whole table.

    Args:
        predictions: As `check_study` returns.
        labels: Of all its patients.
        args: What is compared.
        workers: Processes; the table is the same for any number.
        targets: What is graded.

    Returns:
        `arm, fraction, other, other_fraction, metric, value, other_value, difference` (the first minus the other),
        `low, high` (95 %, paired over patients), `p, p_holm, better` (of the first, by the score's direction), `seeds`,
        `seeds_better` (in how many of them the first is better), `low_seeds, high_seeds` (95 %, seeds drawn besides).
    """
    arms = list(dict.fromkeys(predictions["arm"]))
    fractions = sorted(set(predictions["fraction"]))
    models = dict(iter(predictions.groupby(list(KEYS), sort=False)))
    duels: dict[Contest, _Duel] = {}
    for contest in contests(args, arms, fractions):
        seeds = [
            seed
            for seed in sorted(set(predictions["seed"]))
            if (contest.arm, contest.fraction, seed) in models
            and (contest.other, contest.other_fraction, seed) in models
        ]
        if seeds:
            first = [models[contest.other, contest.other_fraction, seed] for seed in seeds]
            second = [models[contest.arm, contest.fraction, seed] for seed in seeds]
            duels[contest] = _Duel(contest, first, second, labels, args, targets)
    found: dict[Contest, list[dict[str, Any]]] = {}
    with closing(run_jobs(_rows, duels.values(), min(workers, max(len(duels), 1)))) as finished:
        for duel, rows in finished:
            found[duel.contest] = rows
    table = pd.DataFrame([row for contest in duels for row in found[contest]], columns=_SIGNIFICANCE)
    table["p_holm"] = holm([None if np.isnan(p) else float(p) for p in table["p"]])
    return table


_SIGNIFICANCE: Final = [
    "arm", "fraction", "other", "other_fraction", "metric", "value", "other_value", "difference", "low", "high", "p",
    "p_holm", "better", "seeds", "seeds_better", "low_seeds", "high_seeds",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Duel:
    """A comparison with all it is computed from; `first` are the tables of the other arm, a seed each."""

    contest: Contest
    first: Sequence[pd.DataFrame]
    second: Sequence[pd.DataFrame]
    labels: pd.DataFrame
    args: AnalysisArgs
    targets: TargetSet


def _rows(duel: _Duel) -> list[dict[str, Any]]:
    args, labels, targets = duel.args, duel.labels, duel.targets
    ask = partial(compare, labels, duel.first, duel.second, args.metrics, args.resamples, args.seed, targets=targets)
    found = ask(permutations=args.permutations)
    drawn = ask(permutations=1, resample_seeds=True)
    before, after = (
        {entry.metric: entry.seeds for entry in estimate(labels, tables, args.metrics, 1, args.seed, targets=targets)}
        for tables in (duel.first, duel.second)
    )
    return [
        {
            **vars(duel.contest),
            **_row(entry, before[entry.metric], after[entry.metric], targets),
            "low_seeds": wider.low,
            "high_seeds": wider.high,
        }
        for entry, wider in zip(found, drawn, strict=True)
    ]


def _row(found: Comparison, before: Sequence[float], after: Sequence[float], targets: TargetSet) -> dict[str, Any]:
    sign = -1 if find_measure(found.metric, targets).lower_is_better else 1
    return {
        "metric": found.metric,
        "value": found.second,
        "other_value": found.first,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "better": found.better,
        "seeds": len(before),
        "seeds_better": sum(sign * (b - a) > 0 for a, b in zip(before, after, strict=True)),
    }
