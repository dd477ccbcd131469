import logging
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from voco2d.config import from_tree, to_tree
from voco2d.errors import ConfigError, TrainingStoppedError
from voco2d.training.alarm import Alarm, Symptom, alarm_entry
from voco2d.training.symptoms import AlarmArgs

ARGS = AlarmArgs(patience_steps=50, chance_steps=100, plateau_steps=200)
EVERY = 10


def healthy(step: int, **other: Any) -> dict[str, Any]:
    """A record of a run that learns: its loss falls by a thousandth of a step, crops are found more and more."""
    return {
        "step": step,
        "loss": 2.0 - step / 1000,
        "lr": 1e-3,
        "grad_norm": 1.0,
        "nonfinite_grads": 0.0,
        "effective_rank": 20.0,
        "feature_std": 0.9,
        "localisation_accuracy": min(0.3 + step / 1000, 1.0),
        "localisation_chance": 0.25,
        "similarity_std": 0.3,
        "similarity_histogram": [0.1] * 10,
        **other,
    }


def noticed(records: Iterable[dict[str, Any]], args: AlarmArgs = ARGS, warmup: int = 0) -> list[tuple[str, int]]:
    alarm = Alarm(args, warmup)
    return [(symptom.name, symptom.step) for record in records for symptom in alarm.check(record)]


def steps(first: int, last: int) -> range:
    return range(first, last + 1, EVERY)


def test_a_healthy_run_is_left_alone() -> None:
    assert noticed(healthy(step) for step in steps(10, 1000)) == []


@pytest.mark.parametrize(
    "sick", [{"feature_std": 0.01}, {"effective_rank": 1.1}, {"effective_rank": 0.0}, {"similarity_std": 0.001}]
)
def test_a_collapse_must_last(sick: dict[str, float]) -> None:
    brief = [healthy(step, **(sick if 100 <= step < 150 else {})) for step in steps(10, 300)]
    assert noticed(brief) == []
    lasting = [healthy(step, **(sick if step >= 100 else {})) for step in steps(10, 300)]
    assert noticed(lasting) == [("collapse", 150)]


def test_an_episode_is_told_once_and_a_second_one_again(caplog: pytest.LogCaptureFixture) -> None:
    records = [healthy(step, **({"feature_std": 0.01} if step // 100 in (1, 3) else {})) for step in steps(10, 500)]
    with caplog.at_level(logging.WARNING):
        assert noticed(records) == [("collapse", 150), ("collapse", 350)]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["step 150", "step 350"]
    told = caplog.records[0].getMessage()
    assert "collapse: all crops get nearly the same feature: feature_std 0.01, healthy above 0.05" in told
    assert "lower optim.lr or optim.weight_decay" in told


def test_a_few_skipped_steps_are_normal_and_many_are_not() -> None:
    few = [healthy(step, nonfinite_grads=0.5 if step % 20 else 0.0) for step in steps(10, 300)]
    assert noticed(few) == []
    many = [healthy(step, nonfinite_grads=0.8 if step > 100 else 0.0, grad_norm=None) for step in steps(10, 300)]
    assert noticed(many) == [("nonfinite_gradients", 160)]


def test_crops_that_are_not_found_are_told_after_the_warm_up() -> None:
    lost = [healthy(step, localisation_accuracy=0.24) for step in steps(10, 400)]
    assert noticed(lost)[0] == ("chance", 110)
    assert noticed(lost, warmup=200)[0] == ("chance", 310)
    assert noticed([healthy(step, localisation_accuracy=0.27) for step in steps(10, 150)]) == []
    found_late = [healthy(step, localisation_accuracy=0.24 if step < 100 else 0.5) for step in steps(10, 300)]
    assert noticed(found_late) == []


def test_a_run_that_stands_still_is_told() -> None:
    flat = {"loss": 1.0, "localisation_accuracy": 0.6}
    assert noticed(healthy(step, **flat) for step in steps(10, 400)) == [("plateau", 210)]
    assert noticed((healthy(step, **flat) for step in steps(10, 400)), warmup=100) == [("plateau", 310)]
    # one of the two improves
    assert noticed(healthy(step, loss=1.0) for step in steps(10, 400)) == []
    assert noticed(healthy(step, localisation_accuracy=0.6) for step in steps(10, 400)) == []
    # noise is not an improvement
    noisy = [healthy(step, **flat) | {"loss": 1.0 + 0.2 * (step % 20 == 0)} for step in steps(10, 400)]
    assert ("plateau", 210) in noticed(noisy)


def test_a_schedule_that_has_come_down_may_stand_still() -> None:
    def rate(step: int) -> float:
        return 1e-3 if step < 150 else 0.9e-4

    flat = {"loss": 1.0, "localisation_accuracy": 0.6}
    assert noticed(healthy(step, lr=rate(step), **flat) for step in steps(10, 600)) == []


def test_symptoms_can_be_switched_off() -> None:
    flat = [healthy(step, loss=1.0, localisation_accuracy=0.2) for step in steps(10, 600)]
    off = AlarmArgs(patience_steps=50, chance_steps=0, plateau_steps=0)
    assert {name for name, _ in noticed(flat)} == {"chance", "plateau"}
    assert noticed(flat, off) == []


def test_a_method_without_base_crops_is_judged_by_the_rest() -> None:
    keys = ("localisation_accuracy", "localisation_chance", "similarity_std")
    records = [
        {key: value for key, value in healthy(step, loss=-1.0).items() if key not in keys} for step in steps(10, 400)
    ]
    assert noticed(records) == [("plateau", 210)]


def test_a_stop_names_symptom_value_limit_and_cure() -> None:
    alarm = Alarm(AlarmArgs(stop=True, patience_steps=0))
    alarm.check(healthy(10))
    assert not alarm.stops
    alarm.stop_if_asked()
    begun = alarm.check(healthy(20, effective_rank=1.2))
    assert alarm.stops
    with pytest.raises(
        TrainingStoppedError, match=r"step 20: collapse: .* effective_rank 1.2, healthy above 3; try a lower optim.lr"
    ):
        alarm.stop_if_asked()
    assert alarm_entry(begun) == {"alarm": "collapse"}
    assert alarm_entry(()) == {}


def test_without_being_asked_it_never_stops() -> None:
    alarm = Alarm(AlarmArgs(patience_steps=0))
    assert alarm.check(healthy(10, feature_std=0.0))
    assert not alarm.stops
    alarm.stop_if_asked()


def test_a_continued_run_neither_forgets_nor_repeats(caplog: pytest.LogCaptureFixture) -> None:
    records = [healthy(step, **({"feature_std": 0.01} if step >= 100 else {})) for step in steps(10, 300)]
    for cut in (8, 12, 20):
        alarm = Alarm(AlarmArgs(stop=True, patience_steps=50))
        with caplog.at_level(logging.WARNING):
            alarm.replay(records[:cut])
        assert not caplog.records
        begun = [symptom for record in records[cut:] for symptom in alarm.check(record)]
        assert [(symptom.name, symptom.step) for symptom in begun] == ([("collapse", 150)] if cut < 15 else [])
        assert alarm.stops
        caplog.clear()


def work(alarm: Alarm, record: dict[str, Any]) -> int:
    """Count the lines of code that a judgement runs, those in each round of a loop again."""
    lines = 0

    def trace(_frame: Any, event: str, _value: Any) -> Any:
        nonlocal lines
        lines += event in ("line", "call")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        alarm.check(record)
    finally:
        sys.settrace(before)
    return lines


def test_a_judgement_costs_the_same_however_long_the_run_and_the_stretch() -> None:
    """A line of the log a step, and records that are looked at from end to end by every symptom."""
    alarm = Alarm(AlarmArgs(plateau_steps=4000, chance_steps=1000, plateau_gain=0.0))
    costs = {}
    for step in range(1, 9001):
        record = healthy(step, loss=3.0 - step / 50_000, localisation_accuracy=0.2)
        if step in (4410, 8810):
            costs[step] = work(alarm, record)
        else:
            alarm.check(record)
    assert costs[8810] == costs[4410]
    short = Alarm(AlarmArgs(plateau_steps=200, chance_steps=50, plateau_gain=0.0))
    for step in range(1, 450):
        short.check(healthy(step, loss=3.0 - step / 50_000, localisation_accuracy=0.2))
    assert costs[8810] < 1.5 * work(short, healthy(450, loss=2.9, localisation_accuracy=0.2))


def test_parts_of_a_long_stretch_tell_what_its_records_would() -> None:
    """A plateau of 4,000 steps is known to a part of it, 20 steps."""
    args = AlarmArgs(plateau_steps=4000, chance_steps=0)
    flat = (healthy(step, loss=1.0, localisation_accuracy=0.6) for step in range(1, 4300))
    ((name, step),) = noticed(flat, args)
    assert name == "plateau"
    assert 4001 <= step <= 4021
    assert noticed((healthy(step) for step in range(1, 1900)), args) == []


def test_the_end_of_a_log_is_enough_to_go_on() -> None:
    """Whatever lies before `reach` steps changes no judgement: not the highest rate, nor where parts begin."""
    args = AlarmArgs(patience_steps=50, chance_steps=100, plateau_steps=500)
    records = [
        healthy(step, lr=1e-3 if step < 900 else 0.9e-4, loss=1.0 if step > 1500 else 2.0 - step / 2000)
        for step in range(1, 2600)
    ]
    for record in records[2200:2300]:
        record["feature_std"] = 0.01
    for cut in (1100, 2211, 2277, 2400):
        whole, tail = Alarm(args, 30, 1e-3), Alarm(args, 30, 1e-3)
        whole.replay(records[:cut])
        tail.replay(records[cut - tail.reach : cut])
        for record in records[cut:]:
            assert whole.check(record) == tail.check(record)


def test_what_was_logged_as_null_says_nothing() -> None:
    assert noticed(healthy(step, effective_rank=None, feature_std=float("nan")) for step in steps(10, 300)) == []


def test_a_symptom_reads_as_a_sentence() -> None:
    assert str(Symptom("plateau", 7, "no improvement")) == "step 7: plateau: no improvement"


def test_settings_are_strict() -> None:
    assert from_tree(AlarmArgs, to_tree(ARGS)) == ARGS
    for values in (
        {"patience_steps": -1},
        {"chance_factor": 0.5},
        {"plateau_gain": 1.0},
        {"feature_std": -0.1},
        {"similarity_std": -1.0},
    ):
        with pytest.raises(ConfigError, match=f"alarm.{next(iter(values))}="):
            AlarmArgs(**values)
