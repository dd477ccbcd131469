"""Symptoms of a sick pretraining run, told from its log: pure functions from what is known of it to a sentence."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from voco2d.errors import ConfigError
from voco2d.training.alarm_past import Past, Watched, mean_of

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


_NONFINITE = "nonfinite_grads"


def ills(record: Watched, args: AlarmArgs) -> frozenset[str]:
    """Name the entries of a record that are out of their healthy range, of those that must stay so to be a symptom."""
    low = {key for key, limit, _ in _collapses(args) if record.get(key, math.inf) < limit}
    return frozenset(low | ({_NONFINITE} if record.get(_NONFINITE, 0.0) > 0.5 else set()))


def collapse(past: Past, args: AlarmArgs) -> str | None:
    """Tell that the features, or the similarities, became alike or use hardly a direction, and stayed so."""
    cure = "try a lower optim.lr or optim.weight_decay, a longer optim.warmup_steps or a larger batch_size"
    for key, limit, meaning in _collapses(args):
        if past.lasted(key) >= args.patience_steps:
            return f"{meaning}: {key} {past.now[key]:.3g}, healthy above {limit:g}; {cure}"
    return None


def nonfinite_gradients(past: Past, args: AlarmArgs) -> str | None:
    """Tell that most gradients are not finite for long; a few steps skipped by the scaler of fp16 are normal."""
    if past.lasted(_NONFINITE) < args.patience_steps:
        return None
    return (
        f"gradients are NaN or infinite, so that steps are skipped: {_NONFINITE} {past.now[_NONFINITE]:.2g}, healthy "
        "below 0.5; try precision=bf16 or fp32, or a lower optim.lr"
    )


def chance(past: Past, args: AlarmArgs) -> str | None:
    """Tell that random crops are still not found better than by naming the most frequent base crop."""
    parts = past.stretches["chance"].parts("localisation_accuracy")
    if not parts:
        return None
    accuracy, guess = mean_of(parts, "localisation_accuracy"), mean_of(parts, "localisation_chance")
    if accuracy > guess * args.chance_factor:
        return None
    return (
        f"random crops are not found: localisation_accuracy {accuracy:.3f} over the last {args.chance_steps} steps, "
        f"chance {guess:.3f}; try another optim.lr or init=imagenet, and look at the prepared volumes"
    )


def plateau(past: Past, args: AlarmArgs) -> str | None:
    """Tell that neither the loss nor the localisation improves while the learning rate is still high."""
    if past.now.get("lr_share", 1.0) < _LOWERED:
        return None
    parts = past.stretches["plateau"].parts("loss")
    middle = past.now["step"] - args.plateau_steps / 2
    first = [part for part in parts if part.last <= middle]
    second = [part for part in parts if part.last > middle]
    if not first or not second:
        return None
    before, now = mean_of(first, "loss"), mean_of(second, "loss")
    if before - now > args.plateau_gain * max(abs(before), _TINY):
        return None
    told = f"loss {before:.4g} → {now:.4g}"
    if all(part.counts.get("localisation_accuracy") == part.counts["loss"] for part in parts):
        found, finds = mean_of(first, "localisation_accuracy"), mean_of(second, "localisation_accuracy")
        if finds - found > args.plateau_gain * max(found, _TINY):
            return None
        told += f", localisation_accuracy {found:.3f} → {finds:.3f}"
    return (
        f"no improvement over the last {args.plateau_steps} steps ({told}, an improvement is above "
        f"{args.plateau_gain:.1%}); let the learning rate fall (schedule_steps), or stop here"
    )


def stretch_steps(args: AlarmArgs) -> Mapping[str, int]:
    """Return how many steps after the warm-up each symptom is told from that needs a stretch of them."""
    return {"chance": args.chance_steps, "plateau": args.plateau_steps}


SYMPTOMS: Final[Mapping[str, Callable[[Past, AlarmArgs], str | None]]] = {
    "collapse": collapse,
    "nonfinite_gradients": nonfinite_gradients,
    "chance": chance,
    "plateau": plateau,
}
"""Name → the function that tells it."""


def _collapses(args: AlarmArgs) -> tuple[tuple[str, float, str], ...]:
    """Return entries with the values they must not stay below, and what it means where they do."""
    return (
        ("feature_std", args.feature_std, "all crops get nearly the same feature"),
        ("effective_rank", args.effective_rank, "the features use hardly a direction"),
        ("similarity_std", args.similarity_std, "every random crop is as similar to one base crop as to another"),
    )
