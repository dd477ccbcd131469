"""Decides whether a run takes the fused loops for CPUs, and cleans up behind them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from voco2d.models import cpu_arena
from voco2d.models.cpu_memory import keep_freed_memory, release_freed_memory
from voco2d.models.fast_cpu import accelerate_cpu
from voco2d.training.pretrain_args import PretrainArgs


def take_fast_path(backbone: nn.Module, args: PretrainArgs, device: torch.device) -> None:
    """Let a backbone train by the fused loops where `fast_cpu` asks for them and they apply, in place.

    They apply on a CPU in `fp32`, and not where torch.compile makes its own. Freed memory is then kept for the next
    step, by this process as a whole, until the end of `memory_given_back`.

    Args:
        backbone: Before a teacher is copied from it.
        args: Settings.
        device: Where it is going to be trained.

    Raises:
        UsageError: numba can't be imported.
    """
    if args.fast_cpu and device.type == "cpu" and args.precision == "fp32" and not args.compile:
        keep_freed_memory()
        accelerate_cpu(backbone)


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Give memory that was kept for a next step back to the system in the end, however that comes."""
    try:
        yield
    finally:
        cpu_arena.release()
        release_freed_memory()
