"""The other side of the bench: steps of the paper's public code, imported from a checkout of it.

From github.com/tkz05/2D-VoCo-CT-Classifier come the module `models.voco_head` with its class `VoCoHeadV2`, and the
learning-rate schedule of `optimizers.lr_scheduler`. The optimizer and the order of a step are those of its training
script, which itself asks for a GPU and for its authors' files; on a GPU it computes in float16 under autocast with a
scaled gradient, and lets cuDNN choose among deterministic algorithms, as that script does. In place of their data there
are random volumes of the shapes their loader gives, as MONAI's tensors, which lie on the device already; in place of
the download of ImageNet weights the backbones start at random.
"""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import timm
import torch

from voco2d.errors import UsageError
from voco2d.training.bench_pretrain import BenchArgs
from voco2d.training.bench_worker import draw_overlap, report

_BACKBONE = "efficientnet_b0"
_CROP, _RANDOM_CROPS, _BASE_CROPS = 64, 2, 9
_GPU_PRECISION = "fp16"


def build(args: BenchArgs, folder: str) -> Callable[[], None]:
    """Return what does a step of the paper's second version, whose code `find_code` found in `folder`.

    Raises:
        UsageError: A package it imports is missing, or another backbone is asked for.
    """
    if args.backbone != _BACKBONE:
        raise UsageError(f"--backbone {args.backbone}: the paper's code is written for {_BACKBONE}; leave it out")
    root = Path(folder)
    sys.path.insert(0, str(root))
    head, schedules, monai = (
        _load(name, root) for name in ("models.voco_head", "optimizers.lr_scheduler", "monai.data")
    )
    with _random_start(), contextlib.redirect_stdout(sys.stderr):
        model = head.VoCoHeadV2(argparse.Namespace(in_channels=1)).train().to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, amsgrad=True)
    schedule = schedules.WarmupCosineSchedule(optimizer, warmup_steps=5000, t_total=250_000)
    on_gpu = args.device == "cuda"
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = on_gpu
    scaler = torch.amp.GradScaler(args.device, enabled=on_gpu)
    shape = (args.batch_size, args.slices)
    images = monai.MetaTensor(torch.rand(*shape, _RANDOM_CROPS, 1, _CROP, _CROP)).to(args.device)
    crops = monai.MetaTensor(torch.rand(*shape, _BASE_CROPS, 1, _CROP, _CROP)).to(args.device)
    overlap = draw_overlap(args.batch_size, _RANDOM_CROPS, _BASE_CROPS)
    labels = overlap[:, None].expand(-1, args.slices, -1, -1).contiguous().to(args.device)

    def step() -> None:
        with torch.autocast(args.device, dtype=torch.float16, enabled=on_gpu):
            loss = sum(model(images, crops, labels))
            if torch.isnan(loss):
                return
            loss.item()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        optimizer.zero_grad()

    return step


def _load(name: str, root: Path) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).split(".")[0]
        raise UsageError(f"the paper's code in {root} imports {package}: pip install {package}") from error


@contextlib.contextmanager
def _random_start() -> Any:
    """Let timm build models without their weights."""
    create = timm.create_model
    timm.create_model = lambda *words, **settings: create(*words, **{**settings, "pretrained": False})
    try:
        yield
    finally:
        timm.create_model = create


if __name__ == "__main__":
    report(build, _GPU_PRECISION)
