"""What a GPU can do: its measured rate of matrix products and its measured memory bandwidth."""

import time
from typing import Any

import torch

from voco2d.training.bench_process import answer

_SIDE = 8192
_BYTES = 2**30
_ROUNDS = 20


def measure_card(device: torch.device, side: int = _SIDE, count: int = _BYTES, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Measure a device; of each measure the best round counts, after one that doesn't.

    Args:
        device: What is measured.
        side: Of the square matrices that are multiplied, in bfloat16.
        count: Bytes that are copied within its memory.
        rounds: Times each is done.

    Returns:
        `name`; `matmul_flops_per_second`, a multiplication and an addition being two; `copy_bytes_per_second`, bytes
        read and bytes written; on a GPU also its `memory_bytes`, and the versions `cuda` and `cudnn`.
    """
    left, right = (torch.rand(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    product = _best(lambda: torch.mm(left, right), device, rounds)
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device, rounds)
    return {
        **_describe(device),
        "matmul_flops_per_second": 2 * side**3 / product,
        "copy_bytes_per_second": 2 * count / copy,
    }


def _best(work: Any, device: torch.device, rounds: int) -> float:
    """Return the shortest time in seconds."""
    work()
    times = []
    for _ in range(rounds):
        _wait(device)
        since = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - since)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": device.type}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


if __name__ == "__main__":
    answer(lambda order: measure_card(torch.device(order["device"])), "free the GPU's memory from other processes")
