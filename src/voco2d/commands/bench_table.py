"""The table that `voco2d bench pretrain --device cuda` prints."""

from collections.abc import Callable, Mapping
from typing import Any

_SIDES: Mapping[str, str] = {"ours": "ours", "reference": "the paper's code"}
_ROWS: Mapping[str, tuple[Callable[[Mapping[str, Any]], str], str]] = {
    "precision": (lambda side: str(side["precision"]), ""),
    "steps a second": (lambda side: f"{side['steps_per_second']:.2f}", "speed_ratio"),
    "ms a step": (lambda side: f"{1e3 * side['seconds']:.1f}", "time_ratio"),
    "GB peak allocated": (lambda side: f"{side['peak_bytes'] / 1e9:.2f}", "memory_ratio"),
    "GB peak reserved": (lambda side: f"{side['peak_reserved_bytes'] / 1e9:.2f}", "reserved_ratio"),
    "time in kernels": (lambda side: f"{side['kernel_share']:.1%}", ""),
    "TFLOP a step": (lambda side: f"{side['step_flops'] / 1e12:.3f}", ""),
    "TFLOP/s": (lambda side: f"{side['flops_per_second'] / 1e12:.2f}", ""),
    "of the matrix rate": (lambda side: f"{side['matmul_share']:.1%}", ""),
    "GB moved a step": (lambda side: f"{side['step_traffic_bytes'] / 1e9:.2f}", ""),
    "GB/s": (lambda side: f"{side['traffic_bytes_per_second'] / 1e9:.0f}", ""),
    "of the bandwidth": (lambda side: f"{side['bandwidth_share']:.1%}", ""),
}
"""What is told of each side, and the ratio of both that stands beside it, if any."""
_NAME_LENGTH = 100


def gpu_table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table: the card, a column a side with ratios, and the kernels that take the time.

    Args:
        result: What `bench_pretrain` gives for a GPU.
    """
    card, sides = result["card"], [side for side in _SIDES if side in result]
    lines = [
        f"{card['name']}: {card['matmul_flops_per_second'] / 1e12:.0f} TFLOP/s in bf16 matrix products, "
        f"{card['copy_bytes_per_second'] / 1e9:.0f} GB/s copying within its memory, as measured",
        f"{'':20}" + "".join(f"{_SIDES[side]:>18}" for side in sides) + f"{'ratio':>10}" * (len(sides) > 1),
    ]
    for name, (cell, ratio) in _ROWS.items():
        beside = f"{result[ratio]:10.3f}" if ratio in result else ""
        lines.append(f"{name:20}" + "".join(f"{cell(result[side]):>18}" for side in sides) + beside)
    for side in sides:
        lines.append(f"{_SIDES[side]}, share of all kernels' time:")
        lines += [
            f"  {kernel['share']:6.1%} {kernel['calls']:8.1f} x  {kernel['name'][:_NAME_LENGTH]}"
            for kernel in result[side]["kernels"]
        ]
    return lines
