import pytest
import torch
from torch import Tensor, nn

from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.flop_count import convolution_backward_flops, count_flops

CROPS, SLICES, SIDE, VIEWS = 6, 2, 8, 3
FEATURES, PROJECTED, KERNEL = 4, 5, 3


class Network(nn.Module):
    """A convolution with `groups` over the slices of a crop, its mean, and a linear projector."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(SLICES, FEATURES, KERNEL, padding=1, groups=groups, bias=False)
        self.projector = nn.Linear(FEATURES, PROJECTED, bias=False)

    def clip(self, crops: Tensor) -> Tensor:
        clips: Tensor = self.backbone(crops).mean((-2, -1))
        return clips

    def project(self, clips: Tensor) -> Tensor:
        projected: Tensor = self.projector(clips)
        return projected


@pytest.mark.parametrize("groups", [1, 2])
def test_counts_are_those_of_closed_forms(groups: int) -> None:
    units = torch.empty(CROPS, SLICES, SIDE, SIDE)
    counted = count_flops(Network(groups), Network(groups), units, VIEWS)
    encoder = 2 * CROPS * SIDE**2 * FEATURES * (SLICES // groups) * KERNEL**2
    projector = 2 * CROPS * FEATURES * PROJECTED
    assert counted["encoder_forward_flops"] == encoder
    assert counted["forward_flops"] == 2 * (encoder + projector)
    # the convolution's input takes no gradient, nor do the teacher's encoder and what its projector sees
    backward = encoder + 2 * projector + projector
    assert counted["step_flops"] == 2 * (encoder + projector) + backward
    assert counted["recomputed_flops"] == 0


@pytest.mark.parametrize(("wanted", "gradients"), [((True, True, False), 2), ((False, True, True), 1)])
def test_a_grouped_convolution_goes_back_as_grouped(wanted: tuple[bool, ...], gradients: int) -> None:
    """torch 2.15 counts it as if it had one group."""
    gradient, images, weight = (2, 8, 5, 5), (2, 8, 5, 5), (8, 1, 3, 3)
    assert convolution_backward_flops(gradient, images, weight, wanted) == gradients * 2 * (2 * 8 * 25) * 9


def test_a_backbone_counts_three_times_its_forward_pass_to_learn() -> None:
    args = VoCoArgs(**{**PAPER_V2, "grid": 2, "crop": 32, "slices": 2, "hidden": 8})
    voco = VoCo(build_backbone("efficientnet_b0"), args)
    counted = count_flops(voco.student, voco.teacher.network, torch.empty(6, 2, 32, 32), views=6)
    encoder = counted["encoder_forward_flops"]
    assert counted["forward_flops"] == pytest.approx(2 * encoder, rel=0.05)
    assert counted["step_flops"] == pytest.approx(4 * encoder, rel=0.05)
