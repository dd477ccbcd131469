"""What the figures of a step on a GPU say: rates, shares of what the card can do, and ratios of both sides."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

RATIOS: Mapping[str, str] = {
    "time": "seconds",
    "cpu_time": "cpu_seconds",
    "memory": "peak_bytes",
    "reserved": "peak_reserved_bytes",
    "speed": "steps_per_second",
}
"""What is compared, ours over the reference's, and the key it is compared by."""


def sum_up_side(runs: Sequence[Mapping[str, Any]], card: Mapping[str, Any]) -> dict[str, Any]:
    """Put what was measured of a side in each round together and compare it with the card.

    Args:
        runs: One a round, with `precision`; `seconds` and `cpu_seconds`, lists of times of a step; `peak_bytes` and
            `peak_reserved_bytes`; `step_flops`, `step_traffic_bytes`; and what `sum_up_kernels` gives.
        card: What `measure_card` gives.

    Returns:
        Medians of times, the largest of memory, and of the rest the first round's, with `steps_per_second`,
        `flops_per_second`, `traffic_bytes_per_second`, and the shares of the card's rates that these are:
        `matmul_share` and `bandwidth_share`. `kernel_share` is the median over rounds.
    """
    first = runs[0]
    times = {key: [second for run in runs for second in run[key]] for key in ("seconds", "cpu_seconds")}
    seconds = statistics.median(times["seconds"])
    flops, traffic = first["step_flops"] / seconds, first["step_traffic_bytes"] / seconds
    medians = {
        key: statistics.median(run[key] for run in runs)
        for key in ("kernel_seconds", "kernel_share", "profiled_seconds")
    }
    return {
        **first,
        **medians,
        "seconds": seconds,
        "cpu_seconds": statistics.median(times["cpu_seconds"]),
        "steps_seconds": times["seconds"],
        "steps_per_second": 1 / seconds,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "peak_reserved_bytes": max(run["peak_reserved_bytes"] for run in runs),
        "flops_per_second": flops,
        "matmul_share": flops / card["matmul_flops_per_second"],
        "traffic_bytes_per_second": traffic,
        "bandwidth_share": traffic / card["copy_bytes_per_second"],
    }


def compare_sides(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ours over the reference's for each of `RATIOS`, under its name and `_ratio`."""
    return {f"{name}_ratio": ours[key] / reference[key] for name, key in RATIOS.items()}
