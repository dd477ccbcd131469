"""An alarm over the log of a pretraining run: names a symptom once an episode, and stops the run if asked."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from voco2d.errors import TrainingStoppedError
from voco2d.training.alarm_past import Past, Stretch
from voco2d.training.symptoms import SYMPTOMS, AlarmArgs, ills, stretch_steps

_log = logging.getLogger(__name__)

_KEYS = (
    "step", "loss", "lr", "nonfinite_grads", "effective_rank", "feature_std", "similarity_std",
    "localisation_accuracy", "localisation_chance",
)  # fmt: skip


@dataclass(frozen=True)
class Symptom:
    """A symptom and the step at which it was noticed.

    Args:
        name: A key of `SYMPTOMS`.
        step: Steps done.
        told: What is wrong, the value and its limit, and what may help.
    """

    name: str
    step: int
    told: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.name}: {self.told}"


class Alarm:
    """Judges the records of a run as they come; a record costs the same however many came before.

    Args:
        args: Settings.
        warmup_steps: Steps in which a loss may stand still and crops may not be found.
        highest_lr: Highest learning rate of the run, where it is known before it is reached.
    """

    def __init__(self, args: AlarmArgs, warmup_steps: int = 0, highest_lr: float = 0.0) -> None:
        self._args = args
        self._warmup = warmup_steps
        self._highest_lr = highest_lr
        self._sick_since: dict[str, float] = {}
        self._stretches = {name: Stretch(steps) for name, steps in stretch_steps(args).items()}
        self._active: dict[str, Symptom] = {}

    def check(self, record: Mapping[str, Any]) -> tuple[Symptom, ...]:
        """Take in a record, warn of the symptoms that begin with it, and return them.

        Args:
            record: As it is logged; needs `step`, above that of the record before.
        """
        begun = self._judge(record)
        for symptom in begun:
            _log.warning("%s", symptom)
        return begun

    def replay(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in the log of a run that is continued, without warning again.

        Args:
            records: Those of the last `reach` steps are enough.
        """
        for record in records:
            self._judge(record)

    def stop_if_asked(self) -> None:
        """Stop the run where a symptom lasts and `stop` is on; call it after the checkpoint is saved.

        Raises:
            TrainingStoppedError: With the symptoms.
        """
        if self._args.stop and self._active:
            told = "; ".join(str(symptom) for symptom in self._active.values())
            raise TrainingStoppedError(f"{told}; stopped, to go on as it is continue with --resume alarm.stop=false")

    @property
    def reach(self) -> int:
        """Steps of a log that say all that a judgement may need."""
        return 2 * self._args.longest

    @property
    def stops(self) -> bool:
        """Whether `stop_if_asked` would stop now, so that a checkpoint is due."""
        return self._args.stop and bool(self._active)

    def _judge(self, record: Mapping[str, Any]) -> tuple[Symptom, ...]:
        numbers = {key: float(record[key]) for key in _KEYS if _is_finite(record.get(key))}
        if "lr" in numbers:
            self._highest_lr = max(self._highest_lr, numbers["lr"])
            numbers["lr_share"] = numbers["lr"] / self._highest_lr if self._highest_lr else 1.0
        step = int(numbers["step"])
        sick = ills(numbers, self._args)
        self._sick_since = {ill: self._sick_since.get(ill, float(step)) for ill in sick}
        if step > self._warmup:
            for stretch in self._stretches.values():
                stretch.add(numbers)
        past = Past(numbers, self._sick_since, self._stretches)
        begun = []
        for name, tell in SYMPTOMS.items():
            told = tell(past, self._args)
            if told is None:
                self._active.pop(name, None)
            elif name not in self._active:
                self._active[name] = Symptom(name, step, told)
                begun.append(self._active[name])
        return tuple(begun)


def alarm_entry(begun: Iterable[Symptom]) -> dict[str, str]:
    """Return what a record says of the symptoms that begin with it: `alarm`, their names; nothing without any."""
    names = ", ".join(symptom.name for symptom in begun)
    return {"alarm": names} if names else {}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
