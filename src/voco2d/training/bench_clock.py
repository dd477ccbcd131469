"""How long work takes and how much memory a process has taken so far."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def timed(work: Callable[[], object], on_gpu: bool = False) -> tuple[float, float]:
    """Return how many seconds work takes by the clock, and of all cores together."""
    _wait(on_gpu)
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    _wait(on_gpu)
    return time.perf_counter() - start, time.process_time() - cpu_start


def peak_bytes(on_gpu: bool = False) -> int:
    """Return the largest amount of memory taken so far: resident in this process, or allocated on the GPU."""
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage's peak is inherited from the process that started this one; this one isn't
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()
