from dataclasses import replace

import pytest
import torch

from voco2d.models.backbones import build_backbone
from voco2d.models.fast_cpu import accelerate_cpu
from voco2d.training.fast_path import take_fast_path
from voco2d.training.pretrain_args import MAY_CHANGE, PretrainArgs

ARGS = PretrainArgs(backbone="efficientnet_b0", device="cpu")


def kinds(args: PretrainArgs, device: str) -> set[str]:
    backbone = build_backbone(args.backbone)
    take_fast_path(backbone, args, torch.device(device))
    return {type(module).__name__ for module in backbone.modules()}


def test_it_is_what_users_get() -> None:
    fast = {type(module).__name__ for module in accelerate_cpu(build_backbone(ARGS.backbone)).modules()}
    assert kinds(ARGS, "cpu") == fast
    assert "InvertedResidual" not in fast


@pytest.mark.parametrize(
    ("args", "device"),
    [
        (replace(ARGS, fast_cpu=False), "cpu"),
        (replace(ARGS, precision="bf16"), "cpu"),
        (replace(ARGS, compile=True), "cpu"),
        (ARGS, "cuda"),
    ],
)
def test_elsewhere_backbones_are_timms_own(args: PretrainArgs, device: str) -> None:
    plain = {type(module).__name__ for module in build_backbone(ARGS.backbone).modules()}
    assert kinds(args, device) == plain


def test_a_run_may_go_on_without_it() -> None:
    assert "fast_cpu" in MAY_CHANGE
