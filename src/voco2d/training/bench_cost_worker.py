"""The process that measures one method: builds it, steps, and prints times, peak memory, operations and parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from voco2d.config import resolve
from voco2d.methods.method import CropBatch
from voco2d.methods.voco import VoCo
from voco2d.methods.voco3d import VoCo3D, VoCo3DArgs
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.bench_clock import peak_bytes, timed
from voco2d.training.bench_cost import SUBJECTS, CostArgs
from voco2d.training.bench_crops import RANDOM_CROPS
from voco2d.training.bench_process import answer
from voco2d.training.fast_path import take_fast_path
from voco2d.training.flop_count import count_flops
from voco2d.training.gradients import Chance, compute_gradients
from voco2d.training.optim import build_optimizer
from voco2d.training.pretrain_args import PRESETS, PretrainArgs
from voco2d.training.trainer import launch

_SEED = 0


def measure(name: str, crops: Path, args: CostArgs) -> dict[str, Any]:
    """Measure one method.

    Args:
        name: Key of `SUBJECTS`.
        crops: Made by `write_crops`.
        args: Settings.

    Returns:
        `forward_`, `gradients_` (forward and backward) and `step_` (with optimizer and teacher) `seconds` and
        `cpu_seconds` (of all cores together), lists; `start_bytes`, `forward_peak_bytes` and `step_peak_bytes`, of
        this process or of the GPU's memory; what `count_flops` counts; `encoder_`, `student_` and `all_parameters`.
    """
    fabric = launch(args.device, "fp32", _SEED)
    settings = resolve(PretrainArgs, "paper-v2", ["init=random"], PRESETS)
    method = build(name, args)
    method.train().to(fabric.device)
    optimizer = build_optimizer(method.parameters(), settings.optim)
    batch = _read(crops, fabric.device)
    on_gpu = args.device == "cuda"

    @torch.no_grad()
    def forward() -> None:
        method(batch)

    def gradients() -> None:
        compute_gradients(method, batch, fabric, args.chunk, Chance(_SEED, 1))

    def follow() -> None:
        method.before_step(0.0)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(0.0)

    warm_up, steps = (0, args.steps_3d) if SUBJECTS[name].is_3d else (args.warm_up, args.steps)
    start = peak_bytes(on_gpu)
    times: dict[str, list[float]] = {}
    # all forward passes come first: the peak of a process can be read but not set back
    for index in range(warm_up + steps):
        _note(times if index >= warm_up else {}, "forward", timed(forward, on_gpu))
    forward_peak = peak_bytes(on_gpu)
    for index in range(warm_up + steps):
        kept = times if index >= warm_up else {}
        _note(kept, "gradients", timed(gradients, on_gpu))
        _note(kept, "follow", timed(follow, on_gpu))
    for clock in ("seconds", "cpu_seconds"):
        rest = times.pop(f"follow_{clock}")
        times[f"step_{clock}"] = [first + last for first, last in zip(times[f"gradients_{clock}"], rest, strict=True)]
    return {
        **times,
        "start_bytes": start,
        "forward_peak_bytes": forward_peak,
        "step_peak_bytes": peak_bytes(on_gpu),
        **_parameters(method),
        **count_flops(method.student, method.teacher.network, batch.units, batch.views),
    }


def build(name: str, args: CostArgs) -> VoCo | VoCo3D:
    """Build a method with random weights: 2D-VoCo as `paper-v2` has it, or 3D VoCo."""
    plan = args.plan(name)
    if SUBJECTS[name].is_3d:
        return VoCo3D(VoCo3DArgs(plan.grid, plan.crop, RANDOM_CROPS, checkpointing=args.checkpointing))
    words = [f"method.grid={plan.grid}", f"method.crop={plan.crop}", f"method.slices={plan.slices}"]
    words += [f"fast_cpu={str(args.fast_cpu).lower()}"]
    settings = resolve(PretrainArgs, "paper-v2", words, PRESETS)
    assert isinstance(settings.method, VoCoArgs)
    backbone = build_backbone(SUBJECTS[name].backbone)
    take_fast_path(backbone, settings, torch.device(args.device))
    return VoCo(backbone, settings.method)


def _read(path: Path, device: torch.device) -> CropBatch:
    with np.load(path) as arrays:
        units, overlap = (torch.from_numpy(arrays[key]).to(device) for key in ("units", "overlap"))
    volumes, random_crops, base_crops = overlap.shape
    return CropBatch(units, random_crops + base_crops, overlap, torch.arange(volumes, device=device).roll(-1))


def _note(times: dict[str, list[float]], name: str, taken: tuple[float, float]) -> None:
    """Append what was timed to the lists named after it."""
    for clock, seconds in zip(("seconds", "cpu_seconds"), taken, strict=True):
        times.setdefault(f"{name}_{clock}", []).append(seconds)


def _parameters(method: VoCo | VoCo3D) -> dict[str, int]:
    parts: dict[str, nn.Module] = {"encoder": method.student.backbone, "student": method.student, "all": method}
    return {
        f"{part}_parameters": sum(parameter.numel() for parameter in network.parameters())
        for part, network in parts.items()
    }


def _follow(order: dict[str, Any]) -> dict[str, Any]:
    args = CostArgs(**{**order["args"], "methods": tuple(order["args"]["methods"])})
    torch.set_num_threads(args.threads)
    return measure(order["method"], Path(order["crops"]), args)


if __name__ == "__main__":
    answer(_follow, "a smaller --batch-size takes less, and so does --chunk 1")
