"""How much of a span a GPU spends in kernels, told from the trace that torch's profiler writes."""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_KERNEL = "kernel"
"""Category of kernels in the trace; copies, fills and annotations have others."""
_MICROSECOND = 1e-6

Interval = tuple[float, float]
"""Begin and end."""


@dataclass(frozen=True)
class Kernel:
    """One run of a kernel.

    Args:
        name: As the compiler has it.
        begin: Microseconds.
        end: Likewise.
    """

    name: str
    begin: float
    end: float


def profile_kernels(step: Callable[[], object], steps: int) -> tuple[list[Kernel], float]:
    """Do some steps on a GPU and return the kernels that ran, and the seconds all of it took by the clock."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        torch.cuda.synchronize()
        since = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - since
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return read_kernels(json.loads(path.read_text(encoding="utf-8"))), seconds


def read_kernels(trace: Mapping[str, Any]) -> list[Kernel]:
    """Return the kernels of a trace in the format of Chrome's trace viewer, complete events (`ph` is X) alone."""
    return [
        Kernel(str(event["name"]), float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in trace["traceEvents"]
        if event.get("ph") == "X" and event.get("cat") == _KERNEL
    ]


def sum_up_kernels(kernels: Sequence[Kernel], seconds: float, steps: int, most: int = 8) -> dict[str, Any]:
    """Say how much of the time went by in kernels, and in which.

    Args:
        kernels: Of all streams of one GPU.
        seconds: What the steps took by the clock while they were watched.
        steps: Their number.
        most: How many kernels are named.

    Returns:
        `kernel_seconds` a step, in which at least one kernel ran; `kernel_share` of the time by the clock, 0…1;
        `profiled_seconds` a step by the clock; `kernels`, those that took the most time, each with its `name`,
        `calls` a step and `share` of all kernels' time, which counts two at a time twice.
    """
    busy = covered((kernel.begin, kernel.end) for kernel in kernels) * _MICROSECOND
    times: dict[str, list[float]] = {}
    for kernel in kernels:
        times.setdefault(kernel.name, []).append(kernel.end - kernel.begin)
    total = sum(sum(each) for each in times.values())
    longest = sorted(times.items(), key=lambda entry: -sum(entry[1]))[:most]
    return {
        "kernel_seconds": busy / steps,
        "kernel_share": busy / seconds,
        "profiled_seconds": seconds / steps,
        "kernels": [
            {"name": name, "calls": len(each) / steps, "share": sum(each) / total if total else 0.0}
            for name, each in longest
        ],
    }


def covered(intervals: Iterable[Interval]) -> float:
    """Return the length of the union of intervals."""
    length, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        length += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return length
