"""What a step of 2D-VoCo and one of 3D VoCo cost on the same volumes: each is measured in a process of its own."""

import importlib.util
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from voco2d.errors import ConfigError
from voco2d.extras import require
from voco2d.progress import Progress
from voco2d.training.bench_crops import CropPlan, write_crops
from voco2d.training.bench_hardware import hardware, load
from voco2d.training.bench_process import run_alone

WORKER = "voco2d.training.bench_cost_worker"
RATIOS: Mapping[str, str] = {
    "time": "step_seconds",
    "processor_time": "step_cpu_seconds",
    "memory": "step_peak_bytes",
    "flops": "step_flops",
    "encoder_parameters": "encoder_parameters",
}
"""What is compared, and the key it is compared by."""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        title: As figures and tables name it.
        backbone: timm name; empty for the 3D Swin transformer.
    """

    title: str
    backbone: str = ""

    @property
    def is_3d(self) -> bool:
        """Whether it is 3D VoCo."""
        return not self.backbone


SUBJECTS: Mapping[str, Subject] = {
    "2d_b0": Subject("2D efficientnet_b0", "efficientnet_b0"),
    "2d_v2t": Subject("2D efficientnetv2_rw_t", "efficientnetv2_rw_t"),
    "2d_v2s": Subject("2D efficientnetv2_rw_s", "efficientnetv2_rw_s"),
    "3d_swin_b": Subject("3D Swin-B"),
}
"""What can be measured, by name; the first is what the others are compared with where it is measured."""


@dataclass(frozen=True)
class CostArgs:
    """How the costs are measured.

    Args:
        methods: Keys of `SUBJECTS`; ratios are over the first.
        device: `cpu` or `cuda`.
        rounds: How often each method is started anew; they take turns, so that a change of the machine hits all.
        steps: Steps of 2D-VoCo that are timed in each process.
        warm_up: Steps of 2D-VoCo before them that aren't.
        steps_3d: Steps of 3D VoCo that are timed in each process. They last minutes, so there is no warm-up: what
            only a first step does (loading libraries, clearing memory) takes seconds.
        batch_size: Volumes a step.
        chunk: Crops that are encoded at a time; 0 takes all at once. Otherwise the student encodes each once more.
        threads: Threads of torch.
        fast_cpu: Whether 2D backbones take the fused loops for CPUs, as they do in `voco2d pretrain`.
        checkpointing: Whether 3D VoCo computes its encoder's blocks once more in place of keeping what it needs.
        quick: Smaller crops and fewer slices: a trial of the command whose numbers say nothing about the methods.
    """

    methods: tuple[str, ...] = tuple(SUBJECTS)
    device: Literal["cpu", "cuda"] = "cpu"
    rounds: int = 1
    steps: int = 3
    warm_up: int = 1
    steps_3d: int = 1
    batch_size: int = 1
    chunk: int = 0
    threads: int = 2
    fast_cpu: bool = True
    checkpointing: bool = True
    quick: bool = False

    def __post_init__(self) -> None:
        for key in ("rounds", "steps", "steps_3d", "batch_size", "threads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 1")
        unknown = [name for name in self.methods if name not in SUBJECTS]
        if unknown or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"methods={','.join(self.methods)}: give each of {', '.join(SUBJECTS)} at most once")

    def plan(self, method: str) -> CropPlan:
        """Return how a method cuts its crops: 2D as `paper-v2`, 3D as its publication."""
        if SUBJECTS[method].is_3d:
            return CropPlan(grid=2, crop=32, slices=32, depth=32) if self.quick else CropPlan(4, 64, 64, 64)
        return CropPlan(grid=2, crop=32, slices=4, depth=32) if self.quick else CropPlan(3, 64, 32, 64)


def bench_cost(args: CostArgs) -> dict[str, Any]:
    """Measure all methods, one process at a time, in turns.

    Returns:
        `quick`, `settings`, `hardware`, `load` (the machine's mean load over a minute, before and after), `methods`
        with what was measured, and `ratios` of the keys of `RATIOS` over the first method.

    Raises:
        UsageError: MONAI is not installed and 3D VoCo is asked for, or a process failed; it says why.
    """
    if any(SUBJECTS[name].is_3d for name in args.methods) and importlib.util.find_spec("monai") is None:
        require("monai", "volume", "3D VoCo")
    before = load()
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in args.methods}
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress("measuring", args.rounds * len(args.methods)) as progress,
    ):
        crops = {name: Path(folder, f"{name}.npz") for name in args.methods}
        for name, path in crops.items():
            write_crops(args.plan(name), args.batch_size, path)
        for _ in range(args.rounds):
            for name, path in crops.items():
                order = {"method": name, "crops": str(path), "args": asdict(args)}
                rounds[name].append(run_alone(WORKER, order, args.threads))
                progress.advance(note=SUBJECTS[name].title)
    return {
        "quick": args.quick,
        "settings": asdict(args),
        "crops": {name: asdict(args.plan(name)) for name in args.methods},
        "hardware": hardware(),
        "load": [before, load()],
        "methods": {name: _sum_up(runs) for name, runs in rounds.items()},
        "ratios": _ratios(rounds),
    }


def _sum_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return medians of times over all rounds and the largest of what else was measured, with all rounds."""
    return {**_combine(runs), "rounds": list(runs)}


def _combine(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    combined: dict[str, Any] = {}
    for key in runs[0]:
        if key.endswith("seconds"):
            combined[key] = statistics.median(second for run in runs for second in run[key])
        else:
            combined[key] = max(run[key] for run in runs)
    return combined


def _ratios(rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return each method over the first: the median over rounds of the ratio within a round."""
    first = next(iter(rounds.values()))
    bases = [_combine([run]) for run in first]
    ratios: dict[str, dict[str, float]] = {}
    for name, runs in rounds.items():
        pairs = [(_combine([run]), base) for run, base in zip(runs, bases, strict=True)]
        ratios[name] = {
            ratio: statistics.median(run[key] / base[key] for run, base in pairs) for ratio, key in RATIOS.items()
        }
    return ratios
