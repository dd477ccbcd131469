"""Which arms of a study are held against each other, and in which scores."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from voco2d.errors import ConfigError, UsageError
from voco2d.evaluation.measures import find_measure
from voco2d.targets import TargetSet

_NUMBER = r"[0-9]+\.?[0-9]*|\.[0-9]+"
_CLAIM = re.compile(rf"(?P<arm>\S+)@(?P<fraction>{_NUMBER}) vs (?P<other>\S+)@(?P<base>{_NUMBER})")

_METRICS: Final = ("map", "precision", "recall", "rsna")
_FURTHER: Final = ("rsna_organs", "map_organs9", "precision_organs9", "recall_organs9", "roc_auc")


@dataclass(frozen=True)
class AnalysisArgs:
    """What is computed from the predictions of a study.

    Args:
        metrics: Scores that arms are compared in, see `evaluation.measures`; of other targets than RSNA's map,
            precision, recall and score, where nothing is said.
        further: Scores that are told too, without a test; of other targets roc_auc, where nothing is said.
        primary: The arm that is held against each other one at each fraction.
        claims: Further comparisons, `ARM@FRACTION vs ARM@FRACTION`, for example `voco2d@0.25 vs random@1`.
        resamples: Bootstrap draws of an interval.
        permutations: Exchanges of a test; the least p-value is 1 / (permutations + 1), before Holm's correction.
        seed: Of both.
        alpha: Family-wise error rate of the whole table of comparisons.
    """

    metrics: tuple[str, ...] = _METRICS
    further: tuple[str, ...] = _FURTHER
    primary: str = "voco2d"
    claims: tuple[str, ...] = ()
    resamples: int = 2000
    permutations: int = 10_000
    seed: int = 0
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not self.metrics or self.resamples < 1 or self.permutations < 1 or not 0 < self.alpha < 1:
            raise ConfigError("analysis: give a metric, at least 1 resample and permutation, and alpha between 0 and 1")
        if self.seed < 0:
            raise ConfigError(f"analysis.seed={self.seed}: must be at least 0")
        for key, names in (("metrics", self.metrics), ("further", self.further)):
            repeated = next((name for name in names if names.count(name) > 1), None)
            if repeated is not None:
                raise ConfigError(
                    f"analysis.{key}: {repeated} comes twice, and would be corrected for twice; name it once"
                )
        for claim in self.claims:
            if not _CLAIM.fullmatch(claim):
                raise ConfigError(f"analysis.claims: {claim!r} is not ARM@FRACTION vs ARM@FRACTION")

    def for_targets(self, targets: TargetSet) -> "AnalysisArgs":
        """Put scores that other targets have in the place of the defaults, and check all.

        Raises:
            ConfigError: A score is none of these targets.
        """
        args = self
        if not targets.is_rsna and self.metrics == _METRICS:
            args = replace(args, metrics=("map", "precision", "recall", "score"))
        if not targets.is_rsna and self.further == _FURTHER:
            args = replace(args, further=("roc_auc",))
        for name in (*args.metrics, *args.further):
            try:
                find_measure(name, targets)
            except UsageError as error:
                raise ConfigError(f"analysis.metrics: {error}") from error
        return args


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
