"""What both sides of the bench do alike inside of their processes."""

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from voco2d.errors import Voco2dError
from voco2d.training.bench_pretrain import BenchArgs


def report(build: Callable[[BenchArgs, str], Callable[[], None]]) -> None:
    """Build a side from the words of the command line, time its steps, and print what was measured as JSON.

    Args:
        build: Returns what does a step.
    """
    args = BenchArgs(**json.loads(sys.argv[1]))
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    try:
        step = build(args, sys.argv[2])
        step()
        times = [_time(step) for _ in range(args.steps)]
    except Voco2dError as error:
        answer: dict[str, object] = {"error": str(error)}
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        seconds, cpu_seconds = ([pair[index] for pair in times] for index in range(2))
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def draw_overlap(batch_size: int, random_crops: int, base_crops: int) -> Float[Tensor, "B R K"]:
    """Return made-up overlaps: each random crop lies in one or two base crops."""
    overlap = torch.zeros(batch_size, random_crops, base_crops)
    overlap[:, :, 0] = 0.75
    overlap[:, :, 1] = 0.25
    return overlap


def _time(step: Callable[[], None]) -> tuple[float, float]:
    """Return how long a step takes on the clock, and what it takes of all cores together."""
    start, cpu_start = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - start, time.process_time() - cpu_start
