"""Symptoms of a sick pretraining run, told from its log: pure functions from a stretch of records to a sentence."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voco2d.errors import ConfigError

_LOWERED = 0.1
"""Below this share of the highest learning rate so far, a flat loss is what the schedule is for, not a symptom."""
_TINY = 1e-12


@dataclass(frozen=True)
class AlarmArgs:
    """When a pretraining run counts as sick.

    Args:
        stop: Stop the run at a symptom, after a checkpoint; otherwise it is only told.
        patience_steps: How long a collapse or non-finite gradients must last.
        feature_std: A collapse: below this deviation of unit-length features, 1 when healthy, all crops look alike.
        effective_rank: A collapse: below this effective rank the features use hardly a direction; lower it where a
            batch has fewer than six crops or views, which can't use more.
        similarity_std: A collapse: below this deviation of similarities no base crop is more like a random crop than
            another, even if noise, of dropout for example, keeps the features apart.
        chance_steps: A localisation accuracy, averaged over so many steps after the warm-up, that is not above chance
            is a symptom; 0 never looks.
        chance_factor: Times chance the accuracy must be.
        plateau_steps: A loss and a localisation accuracy that did not improve from the first half of so many steps
            after the warm-up to the second are a symptom; 0 never looks.
        plateau_gain: Share by which the loss must have fallen, or the accuracy risen, to count as improved.
    """

    stop: bool = False
    patience_steps: int = 500
    feature_std: float = 0.05
    effective_rank: float = 3.0
    similarity_std: float = 0.01
    chance_steps: int = 5000
    chance_factor: float = 1.05
    plateau_steps: int = 20_000
    plateau_gain: float = 0.005

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in (
            "patience_steps",
            "chance_steps",
            "plateau_steps",
            "feature_std",
            "effective_rank",
            "similarity_std",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"alarm.{name}={getattr(self, name)}: must be at least 0")
        if self.chance_factor < 1:
            raise ConfigError(f"alarm.chance_factor={self.chance_factor}: must be at least 1, which is chance itself")
        if not 0 <= self.plateau_gain < 1:
            raise ConfigError(f"alarm.plateau_gain={self.plateau_gain}: must lie in 0…1, 1 excluded")

    @property
    def longest(self) -> int:
        """Steps of the past that a judgement needs."""
        return max(self.patience_steps, self.chance_steps, self.plateau_steps)


Watched = Mapping[str, float]
"""The numbers of a record, finite ones alone, and `lr_share`, the learning rate over the highest so far."""


def collapse(past: Sequence[Watched], args: AlarmArgs) -> str | None:
    """Tell that the features, or the similarities, became alike or use hardly a direction, and stayed so."""
    cure = "try a lower optim.lr or optim.weight_decay, a longer optim.warmup_steps or a larger batch_size"
    for key, limit, meaning in (
        ("feature_std", args.feature_std, "all crops get nearly the same feature"),
        ("effective_rank", args.effective_rank, "the features use hardly a direction"),
        ("similarity_std", args.similarity_std, "every random crop is as similar to one base crop as to another"),
    ):
        low = [record.get(key, math.inf) < limit for record in past]
        if _lasted(past, low, args.patience_steps):
            return f"{meaning}: {key} {past[-1][key]:.3g}, healthy above {limit:g}; {cure}"
    return None


def nonfinite_gradients(past: Sequence[Watched], args: AlarmArgs) -> str | None:
    """Tell that most gradients are not finite for long; a few steps skipped by the scaler of fp16 are normal."""
    if not _lasted(past, [record.get("nonfinite_grads", 0.0) > 0.5 for record in past], args.patience_steps):
        return None
    share = past[-1]["nonfinite_grads"]
    return (
        f"gradients are NaN or infinite, so that steps are skipped: nonfinite_grads {share:.2g}, healthy below 0.5; "
        "try precision=bf16 or fp32, or a lower optim.lr"
    )


def chance(past: Sequence[Watched], args: AlarmArgs) -> str | None:
    """Tell that random crops are still not found better than by naming the most frequent base crop."""
    window = _window(past, args.chance_steps, "localisation_accuracy")
    if not window:
        return None
    accuracy, guess = _mean(window, "localisation_accuracy"), _mean(window, "localisation_chance")
    if accuracy > guess * args.chance_factor:
        return None
    return (
        f"random crops are not found: localisation_accuracy {accuracy:.3f} over the last {args.chance_steps} steps, "
        f"chance {guess:.3f}; try another optim.lr or init=imagenet, and look at the prepared volumes"
    )


def plateau(past: Sequence[Watched], args: AlarmArgs) -> str | None:
    """Tell that neither the loss nor the localisation improves while the learning rate is still high."""
    if past[-1].get("lr_share", 1.0) < _LOWERED:
        return None
    window = _window(past, args.plateau_steps, "loss")
    middle = past[-1]["step"] - args.plateau_steps / 2
    first = [record for record in window if record["step"] <= middle]
    second = [record for record in window if record["step"] > middle]
    if not first or not second:
        return None
    before, now = _mean(first, "loss"), _mean(second, "loss")
    if before - now > args.plateau_gain * max(abs(before), _TINY):
        return None
    told = f"loss {before:.4g} → {now:.4g}"
    if all("localisation_accuracy" in record for record in window):
        found, finds = _mean(first, "localisation_accuracy"), _mean(second, "localisation_accuracy")
        if finds - found > args.plateau_gain * max(found, _TINY):
            return None
        told += f", localisation_accuracy {found:.3f} → {finds:.3f}"
    return (
        f"no improvement over the last {args.plateau_steps} steps ({told}, an improvement is above "
        f"{args.plateau_gain:.1%}); let the learning rate fall (schedule_steps), or stop here"
    )


SYMPTOMS: Final[Mapping[str, tuple[Callable[[Sequence[Watched], AlarmArgs], str | None], bool]]] = {
    "collapse": (collapse, False),
    "nonfinite_gradients": (nonfinite_gradients, False),
    "chance": (chance, True),
    "plateau": (plateau, True),
}
"""Name → the function that tells it, and whether it looks at what comes after the warm-up alone."""


def _lasted(past: Sequence[Watched], sick: Sequence[bool], steps: int) -> bool:
    """Tell whether every record of the last `steps` steps is sick, there being so many."""
    since = None
    for record, is_sick in zip(reversed(past), reversed(sick), strict=True):
        if not is_sick:
            break
        since = record["step"]
    return since is not None and past[-1]["step"] - since >= steps


def _window(past: Sequence[Watched], steps: int, key: str) -> Sequence[Watched]:
    """Return the records of the last `steps` steps that have `key`; none where the past is shorter or steps is 0."""
    begin = past[-1]["step"] - steps
    if steps == 0 or past[0]["step"] > begin:
        return ()
    return [record for record in past if record["step"] >= begin and key in record]


def _mean(records: Sequence[Watched], key: str) -> float:
    return math.fsum(record[key] for record in records) / len(records)
