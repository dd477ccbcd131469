"""The tables of a study: scores of every arm, label fraction and seed, and which differences are more than chance."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.evaluation.comparison import Comparison, compare, estimate
from voco2d.evaluation.holm import holm
from voco2d.evaluation.measures import find_measure
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.tables import check_predictions
from voco2d.targets import CLASS_COLUMNS, TARGETS

KEYS: Final = ("arm", "fraction", "seed")
COLUMNS: Final = (*KEYS, "patient_id", *CLASS_COLUMNS)
"""Of the table of predictions, a row a patient and model."""
MEAN: Final = "mean"
"""What stands for the seed where a score is the mean over seeds."""

FLOAT_FORMAT: Final = "%.6g"
"""How probabilities are kept: significant digits, since a logarithm is taken of the smallest."""
_CLAIM = re.compile(r"(?P<arm>\S+)@(?P<fraction>[0-9.]+) vs (?P<other>\S+)@(?P<base>[0-9.]+)")


@dataclass(frozen=True)
class AnalysisArgs:
    """What is computed from the predictions of a study.

    Args:
        metrics: Scores that arms are compared in, see `evaluation.measures`.
        further: Scores that are told too, without a test.
        primary: The arm that is held against each other one at each fraction.
        claims: Further comparisons, `ARM@FRACTION vs ARM@FRACTION`, for example `voco2d@0.25 vs random@1`.
        resamples: Bootstrap draws of an interval.
        permutations: Exchanges of a test; the least p-value is 1 / (permutations + 1), before Holm's correction.
        seed: Of both.
        alpha: Family-wise error rate of the whole table of comparisons.
    """

    metrics: tuple[str, ...] = ("map", "precision", "recall", "rsna")
    further: tuple[str, ...] = ("rsna_organs", "map_organs9", "precision_organs9", "recall_organs9", "roc_auc")
    primary: str = "voco2d"
    claims: tuple[str, ...] = ()
    resamples: int = 2000
    permutations: int = 20_000
    seed: int = 0
    alpha: float = 0.01

    def __post_init__(self) -> None:
        for name in (*self.metrics, *self.further):
            try:
                find_measure(name)
            except UsageError as error:
                raise ConfigError(f"analysis.metrics: {error}") from error
        if not self.metrics or self.resamples < 1 or self.permutations < 1 or not 0 < self.alpha < 1:
            raise ConfigError("analysis: give a metric, at least 1 resample and permutation, and alpha between 0 and 1")
        for claim in self.claims:
            if not _CLAIM.fullmatch(claim):
                raise ConfigError(f"analysis.claims: {claim!r} is not ARM@FRACTION vs ARM@FRACTION")


@dataclass(frozen=True)
class Contest:
    """Two arms that are held against each other, `arm` being the one that is hoped to be better."""

    arm: str
    fraction: float
    other: str
    other_fraction: float


def contests(args: AnalysisArgs, arms: Sequence[str], fractions: Iterable[float]) -> list[Contest]:
    """List what is compared: the primary arm with each other one at each fraction, then the claims."""
    listed = [
        Contest(args.primary, fraction, other, fraction)
        for fraction in sorted(fractions)
        for other in arms
        if args.primary in arms and other != args.primary
    ]
    for claim in args.claims:
        found = _CLAIM.fullmatch(claim)
        assert found is not None
        listed.append(Contest(found["arm"], float(found["fraction"]), found["other"], float(found["base"])))
    return list(dict.fromkeys(listed))


def check_claims(args: AnalysisArgs, arms: Sequence[str], fractions: Sequence[float]) -> None:
    """Refuse comparisons of what a study doesn't have.

    Raises:
        ConfigError: An arm or fraction isn't there.
    """
    if len(arms) > 1 and args.primary not in arms:
        raise ConfigError(f"analysis.primary={args.primary}: no such arm; the study has {', '.join(arms)}")
    for contest in contests(args, arms, fractions):
        pairs = ((contest.arm, contest.fraction), (contest.other, contest.other_fraction))
        for arm, fraction in pairs:
            if arm not in arms or fraction not in fractions:
                raise ConfigError(f"analysis.claims: {arm}@{fraction:g} is no arm and fraction of this study")


def patient_table(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Make one row a patient, sorted: the maximum over series, each target divided by its sum.

    Args:
        predictions: As `tables.check_predictions`.
        labels: Of all its patients.

    Returns:
        `patient_id` and the 13 classes.
    """
    paired = pair(predictions, labels, "max")
    columns = {
        column: paired.probabilities[name][:, place]
        for name, target in TARGETS.items()
        for place, column in enumerate(target.columns)
    }
    table = pd.DataFrame({"patient_id": list(paired.patient_ids), **columns})
    return table.sort_values("patient_id", ignore_index=True)


def check_study(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check the predictions of a study, as they are read from its file.

    Raises:
        LabelError: A column is missing, a row can't be used, or a patient comes twice for one model.
    """
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise LabelError(f"{name}: lacks the column(s) {', '.join(missing)}; give the table that a study wrote")
    table = check_predictions(table, name)
    twice = table.duplicated([*KEYS, "patient_id"]).to_numpy()
    if twice.any():
        raise LabelError(f"{name}: row {int(twice.argmax()) + 1} repeats a patient of the same arm, fraction and seed")
    return table


def score_table(predictions: pd.DataFrame, labels: pd.DataFrame, args: AnalysisArgs) -> pd.DataFrame:
    """Score every model, and every arm's mean over seeds.

    Args:
        predictions: As `check_study` returns.
        labels: Of all its patients.
        args: Which scores.

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
            for found in estimate(labels, tables, metrics, args.resamples, args.seed):
                bounds = {"value": found.value, "low": found.low, "high": found.high}
                rows.append({"arm": arm, "fraction": fraction, "seed": seed, "metric": found.metric, **bounds})
    return pd.DataFrame(rows)


def significance_table(predictions: pd.DataFrame, labels: pd.DataFrame, args: AnalysisArgs) -> pd.DataFrame:
    """Hold arms against each other on the same patients and seeds, p-values corrected by Holm over the whole table.

    Args:
        predictions: As `check_study` returns.
        labels: Of all its patients.
        args: What is compared.

    Returns:
        `arm, fraction, other, other_fraction, metric, value, other_value, difference` (the first minus the other),
        `low, high` (95 %, paired over patients), `p, p_holm, better` (of the first, by the score's direction), `seeds`,
        `seeds_better` (in how many of them the first is better).
    """
    arms = list(dict.fromkeys(predictions["arm"]))
    fractions = sorted(set(predictions["fraction"]))
    models = dict(iter(predictions.groupby(list(KEYS), sort=False)))
    rows = []
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
            rows += _rows(contest, first, second, labels, args)
    table = pd.DataFrame(rows, columns=_SIGNIFICANCE)
    table["p_holm"] = holm([None if np.isnan(p) else float(p) for p in table["p"]])
    return table


_SIGNIFICANCE: Final = [
    "arm", "fraction", "other", "other_fraction", "metric", "value", "other_value", "difference", "low", "high", "p",
    "p_holm", "better", "seeds", "seeds_better",
]  # fmt: skip


def _rows(
    contest: Contest,
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
    labels: pd.DataFrame,
    args: AnalysisArgs,
) -> list[dict[str, Any]]:
    found = compare(labels, first, second, args.metrics, args.resamples, args.seed, permutations=args.permutations)
    by_seed = [
        {entry.metric: entry.seeds for entry in estimate(labels, tables, args.metrics, 1, args.seed)}
        for tables in (first, second)
    ]
    return [{**vars(contest), **_row(entry, by_seed[0][entry.metric], by_seed[1][entry.metric])} for entry in found]


def _row(found: Comparison, before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    sign = -1 if find_measure(found.metric).lower_is_better else 1
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
