from dataclasses import replace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from voco2d.methods.method import CropBatch
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.gradients import Chance, compute_gradients

ARGS = VoCoArgs(grid=2, crop=32, slices=2, hidden=16, feature_dropout=0.3)
VIEWS = ARGS.random_crops + ARGS.grid**2
NORM_FREE = "test_vit"
"""A backbone without batch norm, for which a piece can't tell what is in the others."""


def method(backbone: str = NORM_FREE, args: VoCoArgs = ARGS) -> VoCo:
    torch.manual_seed(0)
    voco = VoCo(build_backbone(backbone), args)
    with torch.no_grad():
        for parameter in voco.teacher.network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return voco


def batch() -> CropBatch:
    generator = torch.Generator().manual_seed(1)
    overlap = torch.rand(3, ARGS.random_crops, ARGS.grid**2, generator=generator)
    return CropBatch(
        units=torch.rand(3 * VIEWS, 2, 32, 32, generator=generator),
        views=VIEWS,
        overlap=overlap / overlap.sum(-1, keepdim=True),
        partner=torch.tensor([1, 2, 0]),
    )


def gradients(voco: VoCo, chunk: int, precision: Any = "32-true") -> tuple[Tensor, dict[str, Tensor]]:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    output = compute_gradients(voco, batch(), fabric, chunk, Chance(seed=3, step=5))
    return output.loss.detach(), {name: p.grad for name, p in voco.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("args", [ARGS, replace(ARGS, **PAPER_V2, grid=2, crop=32)])
@pytest.mark.parametrize("chunk", [1, 4, VIEWS, 17])
def test_loss_and_gradient_are_those_of_the_whole_batch(args: VoCoArgs, chunk: int) -> None:
    """The paper's switches drop features inside the pieces: what is dropped of a unit must not depend on the piece."""
    whole_loss, whole = gradients(method(args=args), 0)
    loss, parts = gradients(method(args=args), chunk)
    torch.testing.assert_close(loss, whole_loss, atol=1e-6, rtol=1e-6)
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_gradient_is_that_of_the_plain_forward() -> None:
    plain, cached = (method(args=replace(ARGS, feature_dropout=0.0)) for _ in range(2))
    plain(batch()).loss.backward()
    _, own = gradients(cached, 0)
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(own[name], parameter.grad, atol=1e-6, rtol=1e-5)


def test_a_piece_sees_the_same_chance_in_both_passes() -> None:
    """Were another set of features dropped in the second pass, the gradient would not be one of the first's loss."""
    args = replace(ARGS, dropout_on="slices", feature_dropout=0.5)
    voco = method(args=args)
    seen: list[Tensor] = []
    encode = voco.encode

    def watched(units: Tensor, seeds: Any = None) -> Tensor:
        seen.append(encode(units, seeds))
        return seen[-1]

    voco.encode = watched  # type: ignore[method-assign]
    gradients(voco, 6)
    first, second = seen[:3], seen[3:]
    assert len(second) == 3
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_chance_depends_on_seed_step_place_and_process() -> None:
    def drawn(seed: int, step: int, rank: int, place: str, *piece: int) -> float:
        getattr(Chance(seed, step, rank), place)(*piece)
        return float(torch.rand(()))

    student = [
        drawn(*key, "student", piece) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)) for piece in (0, 1)
    ]
    assert len({*student, drawn(0, 0, 0, "teacher", 0), drawn(0, 0, 0, "contrast")}) == 10
    assert drawn(0, 0, 0, "contrast") == drawn(0, 0, 1, "contrast")
    assert drawn(0, 0, 0, "student", 1) == student[1]


def test_a_units_seed_is_that_of_its_place_in_the_whole_batch() -> None:
    alone = Chance(seed=3, step=5).units(12)
    assert len(set(alone)) == 12
    assert [seed for rank in range(3) for seed in Chance(3, 5, rank).units(4)] == alone
    assert not {*alone} & {*Chance(3, 6).units(12), *Chance(4, 5).units(12)}


def test_batch_norm_remembers_each_piece_once() -> None:
    voco = method("test_efficientnet")
    count = int(voco.student.backbone.get_buffer("bn1.num_batches_tracked"))
    gradients(voco, 6)
    assert int(voco.student.backbone.get_buffer("bn1.num_batches_tracked")) == count + 3
    norms = [module for module in voco.student.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all(norm.track_running_stats for norm in norms)


def test_bf16_leaves_gradients_in_float32() -> None:
    loss, own = gradients(method("test_efficientnet"), 6, "bf16-mixed")
    assert torch.isfinite(loss)
    assert all(gradient.dtype == torch.float32 for gradient in own.values())
