"""One optimizer step of pretraining: the gradient, one look at whether everything is finite, and the update."""

import math
from collections.abc import Callable, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from voco2d.methods.method import Batch, StepOutput
from voco2d.training.gradients import Chance, compute_gradients
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState

Refuse = Callable[[Mapping[str, float], str], NoReturn]
"""Raises; takes the terms of the loss, and what is not finite in words."""


def take_step(
    state: TrainingState, batch: Batch, args: PretrainArgs, step: int, refuse: Refuse
) -> tuple[StepOutput, Tensor]:
    """Do one optimizer step; the host reads from the device once, before the weights change.

    A loss that is not finite never reaches the weights, nor does such a gradient: in fp16 the step is left out and the
    scaler lowers its scale, in other precisions it is refused.

    Args:
        state: What is changed.
        batch: What is seen.
        args: Settings.
        step: Its number, from 1.
        refuse: Called where something is not finite.

    Returns:
        What the method made of the batch, and the gradient's norm before clipping.
    """
    fabric = state.fabric
    chance = Chance(args.seed, step, fabric.global_rank)
    output = compute_gradients(state.method, batch, fabric, args.chunk, chance)
    limit = args.optim.grad_clip or math.inf
    norm = fabric.clip_gradients(state.method, state.optimizer, max_norm=limit, error_if_nonfinite=False)
    assert norm is not None
    terms, length = _read(output, norm)
    if not all(math.isfinite(value) for value in terms.values()):
        refuse(terms, f"the loss is not finite ({', '.join(f'{name} {value}' for name, value in terms.items())})")
    finite = math.isfinite(length)
    if not finite and _scaler(state) is None:
        refuse(terms, f"the gradient is not finite (norm {length})")
    state.method.before_step(step / args.horizon)
    _update(state, finite)
    state.optimizer.zero_grad()
    state.schedule.step()
    state.method.after_step(step / args.horizon)
    return output, norm


def _read(output: StepOutput, norm: Tensor) -> tuple[dict[str, float], float]:
    """Bring the terms of the loss and the gradient's norm to the host, all in one copy."""
    *terms, length = torch.stack([value.detach().float() for value in (*output.terms.values(), norm)]).tolist()
    return dict(zip(output.terms, terms, strict=True)), length


def _update(state: TrainingState, finite: bool) -> None:
    """Let the optimizer step, in fp16 only where the gradient is finite; the scaler learns of it in any case."""
    scaler = _scaler(state)
    if scaler is None:
        state.fabric.strategy.optimizer_step(state.optimizer)
        return
    if finite:  # what the scaler's own `step` would ask the device for once more
        state.optimizer.step()
    scaler.update()


def _scaler(state: TrainingState) -> torch.amp.GradScaler | None:
    scaler: torch.amp.GradScaler | None = getattr(state.fabric.strategy.precision, "scaler", None)
    return scaler
