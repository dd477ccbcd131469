"""A step looks at the device once, and what is not finite never reaches the weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

from voco2d.methods.method import CropBatch, StepOutput
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.gradients import Chance, compute_gradients
from voco2d.training.optim import OptimArgs, build_schedule
from voco2d.training.pretrain import PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import TrainingState
from voco2d.training.pretrain_step import take_step

METHOD = VoCoArgs(grid=2, crop=32, slices=2, hidden=16)
VIEWS = METHOD.random_crops + METHOD.grid**2
ARGS = PretrainArgs(
    backbone="test_efficientnet", steps=8, batch_size=2, log_every=99, checkpoint_every=99, device="cpu", method=METHOD
)
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__")
"""Ways in which a tensor's values come to the host."""


class RefusedError(Exception):
    """What is not finite, in words."""


def refuse(_terms: Mapping[str, float], what: str) -> NoReturn:
    raise RefusedError(what)


def state_of(fabric: Fabric) -> TrainingState:
    torch.manual_seed(0)
    method = VoCo(build_backbone("test_efficientnet"), METHOD).train()
    optimizer = torch.optim.AdamW([weight for weight in method.parameters() if weight.requires_grad], lr=1e-3)
    return TrainingState(method, optimizer, build_schedule(optimizer, OptimArgs(), 8), fabric)


def batch() -> CropBatch:
    generator = torch.Generator().manual_seed(1)
    overlap = torch.rand(2, METHOD.random_crops, METHOD.grid**2, generator=generator)
    units = torch.rand(2 * VIEWS, 2, 32, 32, generator=generator)
    return CropBatch(units, VIEWS, overlap / overlap.sum(-1, keepdim=True), torch.tensor([1, 0]))


def parameters(state: TrainingState) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in state.method.named_parameters()}


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def in_fp32() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def in_fp16() -> Fabric:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def make_sick(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], None], **terms: float) -> None:
    """Let `contrast` change the student's features' gradient and multiply terms of the loss."""
    healthy = VoCo.contrast

    def contrast(self: VoCo, student: Tensor, teacher: Tensor | None, batch: Any) -> StepOutput:
        change(student)
        output = healthy(self, student, teacher, batch)
        return replace(output, terms={name: term * terms.get(name, 1.0) for name, term in output.terms.items()})

    monkeypatch.setattr(VoCo, "contrast", contrast)


def leave(_student: Tensor) -> None:
    """Change no gradient."""


def blow_up(student: Tensor) -> None:
    student.register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reads_from_the_device_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, precision: str
) -> None:
    """What a run reads at its start and end falls out of the difference between a longer and a shorter one.

    The fused loops are for CPUs alone and read where there is nothing to wait for.
    """
    reads: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        read = getattr(Tensor, name)

        def count(self: Tensor, *words: Any, **settings: Any) -> Any:
            reads.append(name)
            return read(self, *words, **settings)

        return count

    for name in READS:
        monkeypatch.setattr(Tensor, name, counted(name))
    args = replace(ARGS, chunk=chunk, precision=precision, residency="device", fast_cpu=False)
    read_by = []
    for steps in (2, 7):
        reads.clear()
        pretrain(store, tmp_path / f"{steps}", replace(args, steps=steps, schedule_steps=8))
        read_by.append(len(reads))
    assert read_by[1] - read_by[0] == 5


@pytest.mark.parametrize(
    ("change", "terms", "told"),
    [
        (leave, {"inter": float("nan")}, r"the loss is not finite \(intra .*, inter nan, reg .*\)"),
        (leave, {"reg": float("inf")}, r"the loss is not finite"),
        (blow_up, {}, r"the gradient is not finite \(norm (nan|inf)\)"),
        (blow_up, {"intra": float("nan")}, r"the loss is not finite \(intra nan"),
    ],
)
def test_what_is_not_finite_never_reaches_the_weights(
    change: Callable[[Tensor], None], terms: dict[str, float], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(in_fp32())
    before = parameters(state)
    make_sick(monkeypatch, change, **terms)
    with pytest.raises(RefusedError, match=told):
        take_step(state, batch(), ARGS, 1, refuse)
    assert_same(parameters(state), before)
    assert not state.optimizer.state


def test_fp16_leaves_out_a_step_whose_gradient_is_not_finite_and_lowers_the_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = state_of(in_fp16())
    take_step(state, batch(), ARGS, 1, refuse)  # torch warns of a schedule that runs ahead of the very first step
    before = parameters(state)
    with monkeypatch.context() as sick:
        make_sick(sick, blow_up)
        _, norm = take_step(state, batch(), ARGS, 2, refuse)
    assert not norm.isfinite()
    student = {name: weight for name, weight in before.items() if name.startswith("student.")}
    assert_same({name: parameters(state)[name] for name in student}, student)
    assert state.fabric.strategy.precision.state_dict()["scale"] == 512.0
    assert state.schedule.last_epoch == 2
    _, norm = take_step(state, batch(), ARGS, 3, refuse)
    assert norm.isfinite()
    assert any(not torch.equal(parameters(state)[name], weight) for name, weight in student.items())


def test_fp16_refuses_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(in_fp16())
    before = parameters(state)
    make_sick(monkeypatch, leave, intra=float("nan"))
    with pytest.raises(RefusedError, match="the loss is not finite"):
        take_step(state, batch(), ARGS, 1, refuse)
    assert_same(parameters(state), before)


def test_fp16_steps_as_the_scaler_itself_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps, the third with a gradient that is not finite: the same weights, scale and steps of its growth."""
    ours, plain = state_of(in_fp16()), state_of(in_fp16())
    for step in range(1, 7):
        with monkeypatch.context() as sick:
            if step == 3:
                make_sick(sick, blow_up)
            take_step(ours, batch(), ARGS, step, refuse)
            compute_gradients(plain.method, batch(), plain.fabric, 0, Chance(ARGS.seed, step))
        plain.fabric.clip_gradients(plain.method, plain.optimizer, max_norm=1.0, error_if_nonfinite=False)
        plain.method.before_step(step / ARGS.horizon)
        plain.fabric.strategy.optimizer_step(plain.optimizer)
        plain.optimizer.zero_grad()
        plain.schedule.step()
        plain.method.after_step(step / ARGS.horizon)
    assert_same(parameters(ours), parameters(plain))
    assert ours.fabric.strategy.precision.state_dict() == plain.fabric.strategy.precision.state_dict()
