"""Settings that can't work are refused before anything is read."""

import math
from collections.abc import Callable

import pytest

from voco2d.config import resolve
from voco2d.errors import ConfigError
from voco2d.training.optim import OptimArgs
from voco2d.training.pretrain_args import PRESETS, PretrainArgs


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: PretrainArgs(schedule_steps=0), "schedule_steps=0: must be at least 1"),
        (lambda: PretrainArgs(schedule_steps=-5), "schedule_steps=-5: must be at least 1"),
        (lambda: PretrainArgs(window_hu=(-math.inf, 250.0)), r"window_hu=\[-inf, 250.0\]: both must be finite"),
        (lambda: PretrainArgs(window_hu=(250.0, -175.0)), "the first below the second"),
        (lambda: OptimArgs(lr=math.inf), "optim.lr=inf: must be finite and above 0"),
        (lambda: OptimArgs(lr=math.nan), "optim.lr=nan: must be finite and above 0"),
        (lambda: OptimArgs(weight_decay=math.nan), "optim.weight_decay=nan: must be finite and at least 0"),
        (lambda: OptimArgs(grad_clip=math.inf), "optim.grad_clip=inf: must be finite and at least 0"),
        (lambda: OptimArgs(warmup_steps=-1), "optim.warmup_steps=-1: must be finite and at least 0"),
    ],
)
def test_what_cannot_work_is_refused_with_its_value(build: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build()


def test_the_schedule_takes_steps_unless_it_has_its_own() -> None:
    assert PretrainArgs(steps=7).horizon == 7
    assert PretrainArgs(steps=7, schedule_steps=9).horizon == 9


def test_the_presets_of_the_paper_differ_from_the_default_in_what_the_documentation_lists() -> None:
    """Beside `method.*`; docs/method.md has a row for each."""
    ours, paper = (vars(resolve(PretrainArgs, name, (), PRESETS)) for name in ("voco2d", "paper-v2"))
    changed = {key for key in ours if ours[key] != paper[key]} - {"method", "optim"}
    changed |= {f"optim.{key}" for key, value in vars(ours["optim"]).items() if vars(paper["optim"])[key] != value}
    assert changed == {
        "init", "steps", "schedule_steps", "checkpoint_every", "keep_checkpoints", "optim.lr", "optim.amsgrad",
        "optim.warmup_steps", "optim.grad_clip",
    }  # fmt: skip
