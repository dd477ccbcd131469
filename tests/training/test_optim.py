import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from voco2d.errors import ConfigError
from voco2d.training.optim import OptimArgs, build_optimizer, build_schedule


def rates(args: OptimArgs, total: int, steps: int) -> list[float]:
    optimizer = build_optimizer([nn.Parameter(torch.ones(1))], args)
    schedule: LambdaLR = build_schedule(optimizer, args, total)
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_warms_up_and_falls_to_zero() -> None:
    seen = rates(OptimArgs(lr=1.0, schedule="cosine", warmup_steps=4), 44, 60)
    assert seen[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert seen[4] == 1.0
    assert seen[24] == pytest.approx(0.5)
    assert seen[44:] == pytest.approx([0.0] * 16)


def test_one_cycle_rises_for_three_tenths() -> None:
    seen = rates(OptimArgs(lr=1.0, schedule="one_cycle"), 100, 101)
    assert seen[0] == pytest.approx(0.04)
    assert seen.index(max(seen)) == 30
    assert seen[100] == pytest.approx(0.0)


def test_constant_stays() -> None:
    assert rates(OptimArgs(lr=0.5, schedule="constant"), 10, 12) == [0.5] * 12


def test_a_warm_up_takes_at_most_a_tenth() -> None:
    """Else a short run of a long preset would never leave it."""
    assert rates(OptimArgs(lr=1.0, warmup_steps=5000, schedule="constant"), 20, 4)[2:] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimizers_take_what_needs_a_gradient(name: str, kind: type[torch.optim.Optimizer]) -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    args = OptimArgs(name=name, amsgrad=True, weight_decay=0.1)  # type: ignore[arg-type]
    optimizer = build_optimizer(layer.parameters(), args)
    assert isinstance(optimizer, kind)
    assert [group["params"] for group in optimizer.param_groups] == [[layer.weight]]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert name == "sgd" or optimizer.param_groups[0]["amsgrad"]


@pytest.mark.parametrize(
    ("key", "value"), [("lr", 0.0), ("weight_decay", -0.1), ("warmup_steps", -1), ("grad_clip", -1.0)]
)
def test_negative_values_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        OptimArgs(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_one_pass_updates_as_many_do(name: str) -> None:
    args = OptimArgs(name=name, amsgrad=True, weight_decay=0.1)  # type: ignore[arg-type]
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(5, 3)
        optimizer = build_optimizer(layer.parameters(), args)
        assert optimizer.param_groups[0]["fused"]
        optimizer.param_groups[0]["fused"] = fused
        for step in range(1, 4):
            (layer(torch.ones(2, 5) * step) ** 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights.append(layer.weight.detach())
    torch.testing.assert_close(*weights)
