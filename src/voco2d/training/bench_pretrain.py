"""Costs of a pretraining step, of our code and the paper's public code, each in a process of its own."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from voco2d.errors import ConfigError, UsageError
from voco2d.training.bench_gpu import compare_sides, sum_up_side
from voco2d.training.bench_hardware import hardware, load
from voco2d.training.bench_process import run_alone

OURS, REFERENCE = "voco2d.training.bench_ours", "voco2d.training.bench_reference"
CARD = "voco2d.training.bench_card"
_RANDOM_CROPS, _BASE_CROPS, _CROP = 2, 9, 64
_HEAD = Path("models", "voco_head.py")


@dataclass(frozen=True)
class BenchArgs:
    """What a step is made of; crops are those of `paper-v2`: 2 random and 9 base crops of 64 × 64 a volume.

    Args:
        backbone: timm name; the paper's code is written for efficientnet_b0.
        batch_size: Volumes.
        slices: Slices a crop.
        steps: Steps that are timed.
        warm_up: Steps before them that aren't; in the first, loops may be compiled.
        threads: Threads of torch.
        chunk: Crops that our side encodes at a time; 0 takes all at once.
        fast_cpu: Whether our side takes the fused loops for CPUs.
        device: `cpu`, where both sides compute in float32; or `cuda`, where ours computes in bfloat16, and the paper's
            code in float16 with a scaled gradient, as it does by itself.
    """

    backbone: str = "efficientnet_b0"
    batch_size: int = 4
    slices: int = 32
    steps: int = 3
    warm_up: int = 1
    threads: int = 2
    chunk: int = 0
    fast_cpu: bool = True
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        for key in ("batch_size", "slices", "steps", "threads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 1")

    @property
    def images(self) -> int:
        """Crops of slices a step."""
        return self.batch_size * self.slices * (_RANDOM_CROPS + _BASE_CROPS)


def bench_pretrain(args: BenchArgs, reference: Path | None, rounds: int = 1) -> dict[str, Any]:
    """Time both sides one after the other, in each of some rounds.

    Args:
        args: What a step is made of.
        reference: A checkout of the paper's public code; None times our side alone.
        rounds: How often each side is started anew; the sides take turns.

    Returns:
        `ours`, and with a reference `reference`, each with the median `seconds` and `cpu_seconds` a step, all
        `steps_seconds`, and `peak_bytes` resident; `time_ratio`, `cpu_time_ratio` (which other processes on the
        machine disturb less) and `memory_ratio`, ours over the reference's; `settings`, `hardware` and `load`, of the
        machine before and after. On a GPU also `card` (`measure_card`), each side as `sum_up_side` has it, and the
        ratios of `compare_sides`.

    Raises:
        UsageError: A side can't run, or there is no GPU; it says why. A folder that is no checkout is told first.
    """
    sides = {"ours": (OURS, "")}
    if reference is not None:
        sides["reference"] = (REFERENCE, str(find_code(reference.resolve())))
    card = _card(args) if args.device == "cuda" else None
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    before = load()
    for _ in range(rounds):
        for name, (module, folder) in sides.items():
            order = {"args": asdict(args), "folder": folder}
            measured[name].append(run_alone(module, order, args.threads))
    result = _compared(measured) if card is None else _compared_on(card, measured)
    settings = {**asdict(args), "images": args.images, "rounds": rounds}
    return {**result, "settings": settings, "hardware": hardware(), "load": [before, load()]}


def find_code(folder: Path) -> Path:
    """Return the folder of a checkout of the paper's code that holds what pretrains.

    Raises:
        UsageError: There is none.
    """
    for root in (folder / "VoCo", folder):
        if (root / _HEAD).is_file():
            return root
    raise UsageError(f"{folder}: holds neither {Path('VoCo') / _HEAD} nor {_HEAD}; give a checkout of the paper's code")


def _card(args: BenchArgs) -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; leave --device out to measure on the CPU")
    return run_alone(CARD, {"device": args.device}, args.threads)


def _compared(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    result: dict[str, Any] = {name: _sum_up(runs) for name, runs in measured.items()}
    if "reference" in result:
        for ratio, key in (("time", "seconds"), ("cpu_time", "cpu_seconds"), ("memory", "peak_bytes")):
            result[f"{ratio}_ratio"] = result["ours"][key] / result["reference"][key]
    return result


def _compared_on(card: Mapping[str, Any], measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    result: dict[str, Any] = {name: sum_up_side(runs, card) for name, runs in measured.items()}
    ratios = compare_sides(result["ours"], result["reference"]) if "reference" in result else {}
    return {"card": dict(card), **result, **ratios}


def _sum_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = {key: [second for run in runs for second in run[key]] for key in ("seconds", "cpu_seconds")}
    medians = {key: statistics.median(values) for key, values in times.items()}
    peak = max(run["peak_bytes"] for run in runs)
    return {**medians, "steps_seconds": times["seconds"], "peak_bytes": peak}
