"""`voco2d bench`: what a step costs, beside the paper's public code or beside 3D VoCo."""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from voco2d.commands.bench_table import gpu_table
from voco2d.errors import UsageError
from voco2d.training.bench_cost import SUBJECTS, CostArgs, bench_cost
from voco2d.training.bench_cost_figure import draw_costs
from voco2d.training.bench_pretrain import BenchArgs, bench_pretrain

_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "forward s": lambda cost: f"{cost['forward_seconds']:.2f}",
    "step s": lambda cost: f"{cost['step_seconds']:.2f}",
    "step CPU s": lambda cost: f"{cost['step_cpu_seconds']:.2f}",
    "forward TFLOP": lambda cost: f"{cost['forward_flops'] / 1e12:.3f}",
    "step TFLOP": lambda cost: f"{cost['step_flops'] / 1e12:.3f}",
    "M parameters": lambda cost: f"{cost['encoder_parameters'] / 1e6:.1f}",
    "forward GB": lambda cost: f"{cost['forward_peak_bytes'] / 1e9:.2f}",
    "step GB": lambda cost: f"{cost['step_peak_bytes'] / 1e9:.2f}",
}


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, and write it for machines."""
    for path in (options.json, getattr(options, "figure", None)):
        if path is not None and path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file")
    return _pretrain(options) if options.what == "pretrain" else _cost(options)


def _pretrain(options: argparse.Namespace) -> int:
    args = BenchArgs(**_settings(BenchArgs, options))
    result = bench_pretrain(args, options.reference, options.rounds)
    _write(result, options.json)
    print(f"{args.images} crops of 64 x 64 a step, {args.threads} threads")
    if args.device == "cuda":
        print("\n".join(gpu_table(result)))
        return 0
    for side in ("ours", "reference"):
        if side in result:
            print(f"{side:10}{_row(result[side])}")
    if "time_ratio" in result:
        print(
            f"ours over the reference's: time {result['time_ratio']:.3f}, CPU time {result['cpu_time_ratio']:.3f}, "
            f"peak memory {result['memory_ratio']:.3f}"
        )
    return 0


def _cost(options: argparse.Namespace) -> int:
    args = CostArgs(**{**_settings(CostArgs, options), "methods": tuple(options.methods)})
    result = bench_cost(args)
    _write(result, options.json)
    costs: Mapping[str, Mapping[str, Any]] = result["methods"]
    print(f"{'a step of ' + str(args.batch_size) + ' volumes':24}" + "".join(f"{name:>15}" for name in _COLUMNS))
    for name, cost in costs.items():
        print(f"{SUBJECTS[name].title:24}" + "".join(f"{column(cost):>15}" for column in _COLUMNS.values()))
    first = SUBJECTS[args.methods[0]].title
    for name in args.methods[1:]:
        ratios = ", ".join(f"{what.replace('_', ' ')} {ratio:.2f}" for what, ratio in result["ratios"][name].items())
        print(f"{SUBJECTS[name].title} over {first}: {ratios}")
    if args.quick:
        print("quick: tiny crops, so these numbers say nothing about the methods")
    if options.figure is not None:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_costs(result, options.figure)
    return 0


def _settings(kind: type[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Take the settings of a dataclass from the options of the same names."""
    named = {entry.name: getattr(options, entry.name) for entry in fields(kind)}
    return {**named, "threads": options.threads or os.cpu_count() or 1}


def _write(result: Mapping[str, Any], path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _row(side: Mapping[str, Any]) -> str:
    return (
        f"{side['seconds']:9.2f} s a step {side['cpu_seconds']:9.2f} CPU s {side['peak_bytes'] / 1e9:8.2f} GB peak "
        "resident"
    )
