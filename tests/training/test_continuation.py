from dataclasses import dataclass, field
from pathlib import Path

import pytest

from voco2d.errors import ConfigError
from voco2d.training.continuation import refuse_other_run
from voco2d.training.run_dir import RunDir


@dataclass(frozen=True)
class Section:
    lr: float = 0.1
    window: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Args:
    epochs: int = 3
    device: str = "cpu"
    optim: Section = field(default_factory=Section)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    RunDir.create(out, "finetune", Args(), {"init": "random"}, resume=False)
    (out / "folds.csv").write_text("a\n")
    return out


def test_the_same_run_goes_on_and_some_keys_may_change(run: Path) -> None:
    before = (run / "config.yaml").read_text()
    refuse_other_run(run, Args(device="cuda"), ("device",), {"init": "random"}, {"folds.csv": "a\n", "new.csv": "b"})
    assert (run / "config.yaml").read_text() == before


def test_no_run_is_nothing_to_refuse(tmp_path: Path) -> None:
    refuse_other_run(tmp_path / "none", Args(), (), {"init": "random"}, {})


def test_differences_are_named(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"epochs was 3, now 4; optim\.lr was 0\.1, now 0\.2.*choose another --out"):
        refuse_other_run(run, Args(epochs=4, optim=Section(lr=0.2)), ("device",), {}, {})
    with pytest.raises(ConfigError, match="init was random, now imagenet"):
        refuse_other_run(run, Args(), (), {"init": "imagenet"}, {})
    with pytest.raises(ConfigError, match=r"folds\.csv: the patients, labels or folds are others"):
        refuse_other_run(run, Args(), (), {}, {"folds.csv": "b\n"})
