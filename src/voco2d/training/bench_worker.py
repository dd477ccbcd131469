"""What both sides of `bench pretrain` do alike inside of their processes."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from voco2d.training.bench_clock import peak_bytes, timed
from voco2d.training.bench_pretrain import BenchArgs
from voco2d.training.bench_process import answer
from voco2d.training.flop_count import count_executed
from voco2d.training.kernel_time import profile_kernels, sum_up_kernels
from voco2d.training.tensor_traffic import count_traffic

_BLOCKS = 5
"""Times a GPU does the timed steps; it is waited for after all of them, as a run doesn't wait after each either."""


def report(build: Callable[[BenchArgs, str], Callable[[], None]], gpu_precision: str) -> None:
    """Take an order, build a side, time its steps, and print what was measured.

    Args:
        build: Takes settings and the folder of the paper's code, and returns what does a step.
        gpu_precision: What the side computes in on a GPU.
    """

    def measure(order: dict[str, Any]) -> dict[str, Any]:
        args = BenchArgs(**order["args"])
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        step = build(args, order["folder"])
        for _ in range(args.warm_up):
            step()
        if args.device == "cuda":
            return {"precision": gpu_precision, **_on_gpu(step, args.steps)}
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


def _on_gpu(step: Callable[[], None], steps: int) -> dict[str, Any]:
    """Time blocks of steps, then take the peaks of memory, and only then watch closely, which takes time and memory."""

    def block() -> None:
        for _ in range(steps):
            step()

    times = [timed(block, on_gpu=True) for _ in range(_BLOCKS)]
    peaks = {"peak_bytes": peak_bytes(on_gpu=True), "peak_reserved_bytes": torch.cuda.max_memory_reserved()}
    kernels, seconds = profile_kernels(step, steps)
    return {
        "seconds": [pair[0] / steps for pair in times],
        "cpu_seconds": [pair[1] / steps for pair in times],
        **peaks,
        **sum_up_kernels(kernels, seconds, steps),
        "step_flops": count_executed(step),
        "step_traffic_bytes": count_traffic(step),
    }
