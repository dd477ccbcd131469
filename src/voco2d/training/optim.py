"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from voco2d.errors import ConfigError

_RISE = 0.3
"""Share of a one-cycle schedule in which the rate rises (Smith and Topin, arXiv 1708.07120; PyTorch's default)."""
_START = 1 / 25
"""First rate of a one-cycle schedule over its highest."""
_WARMUP_SHARE = 0.1
"""A warm-up takes at most this share of the schedule, so that a short run trains at all."""


@dataclass(frozen=True)
class OptimArgs:
    """How parameters are updated.

    Args:
        name: The optimizer.
        lr: Highest learning rate.
        weight_decay: Decoupled weight decay; with `sgd` an L2 penalty.
        amsgrad: Whether Adam's second moment is the largest seen so far.
        betas: Adam's decay rates; `sgd` takes the first as its momentum.
        schedule: `cosine` falls to zero, `one_cycle` rises over three tenths and falls to zero, `constant` stays.
        warmup_steps: Steps of linear rise before `cosine` or `constant`, at most a tenth of the schedule.
        grad_clip: Largest gradient norm; 0 turns clipping off.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    amsgrad: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup_steps: int = 0
    grad_clip: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"optim.lr={self.lr}: must be finite and above 0")
        for key in ("weight_decay", "warmup_steps", "grad_clip"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"optim.{key}={getattr(self, key)}: must be finite and at least 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas={list(self.betas)}: both must be at least 0 and below 1")


Params = nn.Parameter | dict[str, Any]
"""A parameter, or a group of some under `params` with their own settings."""


def build_optimizer(params: Iterable[Params], args: OptimArgs) -> Optimizer:
    """Build the optimizer over those `params` that take a gradient; groups must hold no others."""
    return _OPTIMIZERS[args.name]([param for param in params if isinstance(param, dict) or param.requires_grad], args)


def build_schedule(optimizer: Optimizer, args: OptimArgs, total_steps: int) -> LambdaLR:
    """Build the schedule; call its `step` once after each optimizer step.

    Args:
        optimizer: What is scheduled.
        args: The schedule and its settings.
        total_steps: Steps after which `cosine` and `one_cycle` have reached zero; they stay there.
    """
    if args.schedule == "one_cycle":
        return LambdaLR(optimizer, lambda step: _one_cycle(step / max(total_steps, 1)))
    warmup = min(args.warmup_steps, int(_WARMUP_SHARE * total_steps))
    return LambdaLR(optimizer, lambda step: _warmed(step, warmup, total_steps, falls=args.schedule == "cosine"))


def _warmed(step: int, warmup: int, total_steps: int, falls: bool) -> float:
    """Return the rate's factor: a linear rise over `warmup` steps, then half a cosine or a constant."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return _half_cosine((step - warmup) / max(total_steps - warmup, 1)) if falls else 1.0


def _one_cycle(share: float) -> float:
    if share < _RISE:
        return 1.0 - (1.0 - _START) * _half_cosine(share / _RISE)
    return _half_cosine((share - _RISE) / (1 - _RISE))


def _half_cosine(share: float) -> float:
    """Fall from 1 at share 0 to 0 at share 1 and stay there."""
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _adam(params: list[Any], args: OptimArgs) -> Optimizer:
    return torch.optim.Adam(params, **_adam_settings(params, args))


def _adamw(params: list[Any], args: OptimArgs) -> Optimizer:
    return torch.optim.AdamW(params, **_adam_settings(params, args))


def _adam_settings(params: list[Any], args: OptimArgs) -> dict[str, Any]:
    # on a CPU, one pass over the parameters instead of a dozen with as many copies of them
    everything = [tensor for entry in params for tensor in (entry["params"] if isinstance(entry, dict) else [entry])]
    fused = all(tensor.device.type == "cpu" for tensor in everything) or None
    shared = {"lr": args.lr, "betas": args.betas, "weight_decay": args.weight_decay, "amsgrad": args.amsgrad}
    return {**shared, "fused": fused}


def _sgd(params: list[Any], args: OptimArgs) -> Optimizer:
    return torch.optim.SGD(params, lr=args.lr, momentum=args.betas[0], weight_decay=args.weight_decay)


_OPTIMIZERS: Mapping[str, Callable[[list[Any], OptimArgs], Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
}
