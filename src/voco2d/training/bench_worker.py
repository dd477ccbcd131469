"""What both sides of `bench pretrain` do alike inside of their processes."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from voco2d.training.bench_clock import peak_bytes, timed
from voco2d.training.bench_pretrain import BenchArgs
from voco2d.training.bench_process import answer


def report(build: Callable[[BenchArgs, str], Callable[[], None]]) -> None:
    """Take an order, build a side, time its steps, and print what was measured.

    Args:
        build: Takes settings and the folder of the paper's code, and returns what does a step.
    """

    def measure(order: dict[str, Any]) -> dict[str, Any]:
        args = BenchArgs(**order["args"])
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        step = build(args, order["folder"])
        for _ in range(args.warm_up):
            step()
        times = [timed(step) for _ in range(args.steps)]
        seconds, cpu_seconds = ([pair[index] for pair in times] for index in range(2))
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes()}

    answer(measure, "a smaller --batch-size or --slices takes less, and on our side --chunk")


def draw_overlap(batch_size: int, random_crops: int, base_crops: int) -> Float[Tensor, "B R K"]:
    """Return made-up overlaps: each random crop lies in one or two base crops."""
    overlap = torch.zeros(batch_size, random_crops, base_crops)
    overlap[:, :, 0] = 0.75
    overlap[:, :, 1] = 0.25
    return overlap
