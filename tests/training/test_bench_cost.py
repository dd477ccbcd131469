from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from voco2d.commands.bench_options import METHODS
from voco2d.errors import ConfigError, UsageError
from voco2d.training import bench_cost as module
from voco2d.training.bench_cost import RATIOS, SUBJECTS, CostArgs, bench_cost
from voco2d.training.bench_cost_figure import draw_costs

TINY = CostArgs(methods=("2d_b0",), quick=True, steps=1, threads=1)


def answers(_module: str, order: dict[str, Any], _threads: int) -> dict[str, Any]:
    """Be a process that measured: the second method takes twice of everything."""
    factor = 1 + order["args"]["methods"].index(order["method"])
    names = ("forward", "gradients", "step")
    seconds = {f"{name}_{clock}": [2.0 * factor, 9.0] for name in names for clock in ("seconds", "cpu_seconds")}
    whole = ("start_bytes", "forward_peak_bytes", "step_peak_bytes", "forward_flops", "step_flops")
    return {**seconds, **dict.fromkeys((*whole, "encoder_parameters"), factor * 10**9)}


@pytest.mark.slow
def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    result = bench_cost(TINY)
    cost = result["methods"]["2d_b0"]
    assert 0 < cost["forward_flops"] < cost["step_flops"]
    assert 0 < cost["start_bytes"] <= cost["forward_peak_bytes"] <= cost["step_peak_bytes"]
    assert cost["encoder_parameters"] == 4_006_972  # timm's 5,288,548 less a classifier, and one channel, not three
    assert all(cost[f"{part}_seconds"] > 0 for part in ("forward", "gradients", "step"))
    assert result["ratios"]["2d_b0"] == dict.fromkeys(RATIOS, 1.0)
    assert result["quick"]


def test_ratios_are_over_the_first_within_a_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "run_alone", answers)
    monkeypatch.setattr(module, "write_crops", lambda *_: None)
    result = bench_cost(CostArgs(methods=("2d_v2t", "2d_b0"), quick=True, rounds=2))
    assert result["ratios"]["2d_b0"]["memory"] == 2.0
    assert result["ratios"]["2d_b0"]["time"] == pytest.approx(6.5 / 5.5)
    assert len(result["methods"]["2d_b0"]["rounds"]) == 2
    draw_costs(result, tmp_path / "cost.png")
    assert matplotlib.image.imread(tmp_path / "cost.png").std() > 0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"methods": ("4d",)}, "methods=4d: give each of 2d_b0, 2d_v2t, 2d_v2s, 3d_swin_b at most once"),
        ({"methods": ("2d_b0", "2d_b0")}, "at most once"),
        ({"methods": ()}, "at most once"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        CostArgs(**values)


def test_a_missing_monai_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(_name: str) -> None:
        return None

    def missing(name: str, extra: str, purpose: str) -> None:
        raise UsageError(f"{purpose} needs {name} of {extra}")

    monkeypatch.setattr(module.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(module, "require", missing)
    with pytest.raises(UsageError, match="3D VoCo needs monai of volume"):
        bench_cost(CostArgs())


def test_the_command_offers_what_there_is() -> None:
    assert tuple(SUBJECTS) == METHODS
