"""Our side of the bench: steps of `paper-v2` on made-up volumes, by the code that `voco2d pretrain` runs.

On a GPU the volumes lie there already, and it computes in bfloat16.
"""

from collections.abc import Callable, Mapping
from typing import NoReturn

import torch

from voco2d.config import resolve
from voco2d.errors import NonFiniteLossError
from voco2d.methods.method import CropBatch
from voco2d.methods.registry import build_method
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.bench_pretrain import BenchArgs
from voco2d.training.bench_worker import draw_overlap, report
from voco2d.training.fast_path import take_fast_path
from voco2d.training.optim import build_optimizer, build_schedule
from voco2d.training.pretrain_args import PRESETS, PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState
from voco2d.training.pretrain_step import take_step
from voco2d.training.trainer import launch

_GPU_PRECISION = "bf16"


def build(args: BenchArgs, folder: str = "") -> Callable[[], None]:
    """Return what does a step: both networks, the loss, its gradient, optimizer, schedule and teacher."""
    del folder
    words = [f"backbone={args.backbone}", "init=random", f"device={args.device}", f"batch_size={args.batch_size}"]
    words += [f"precision={_GPU_PRECISION if args.device == 'cuda' else 'fp32'}"]
    words += [f"chunk={args.chunk}", f"method.slices={args.slices}", f"fast_cpu={str(args.fast_cpu).lower()}"]
    settings = resolve(PretrainArgs, "paper-v2", words, PRESETS)
    fabric = launch(settings.device, settings.precision, settings.seed)
    backbone = build_backbone(settings.backbone)
    take_fast_path(backbone, settings, fabric.device)
    method = build_method(backbone, settings.method).train().to(fabric.device)
    optimizer = build_optimizer(method.parameters(), settings.optim)
    schedule = build_schedule(optimizer, settings.optim, settings.horizon)
    state = TrainingState(method, optimizer, schedule, fabric)
    assert isinstance(settings.method, VoCoArgs)
    side, base, random = settings.method.crop, settings.method.grid**2, settings.method.random_crops
    units = torch.rand(args.batch_size * (random + base), args.slices, side, side)
    partner = torch.arange(args.batch_size).roll(-1)
    overlap = draw_overlap(args.batch_size, random, base)
    batch = CropBatch(
        units=units.to(fabric.device),
        views=random + base,
        overlap=overlap.to(fabric.device),
        partner=partner.to(fabric.device),
    )

    def step() -> None:
        take_step(state, batch, settings, 1, _refuse)

    return step


def _refuse(_terms: Mapping[str, float], what: str) -> NoReturn:
    raise NonFiniteLossError(
        f"{what} in a step on made-up volumes; measure fewer --steps, or in fp32 with --device cpu"
    )


if __name__ == "__main__":
    report(build, _GPU_PRECISION)
