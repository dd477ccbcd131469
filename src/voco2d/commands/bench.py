"""`voco2d bench`: what a pretraining step costs, beside the paper's public code."""

import argparse
import json
import os
from typing import Any

from voco2d.training.bench_pretrain import BenchArgs, bench_pretrain


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, and write it for machines."""
    args = BenchArgs(
        options.backbone,
        options.batch_size,
        options.slices,
        options.steps,
        options.threads or os.cpu_count() or 1,
        options.chunk,
        options.fast_cpu,
    )
    result = bench_pretrain(args, options.reference, options.rounds)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{args.images} crops of 64 x 64 a step, {args.threads} threads")
    for side in ("ours", "reference"):
        if side in result:
            print(f"{side:10}{_row(result[side])}")
    if "time_ratio" in result:
        print(f"ours over the reference's: time {result['time_ratio']:.2f}, peak memory {result['memory_ratio']:.2f}")
    return 0


def _row(side: dict[str, Any]) -> str:
    return f"{side['seconds']:9.2f} s a step {side['peak_bytes'] / 1e9:8.2f} GB peak resident"
