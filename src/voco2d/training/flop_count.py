"""Counts floating-point operations, of a method's networks without computing anything."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Encoder(Protocol):
    """What 2D-VoCo's and 3D VoCo's students and teachers share."""

    def clip(self, crops: Tensor) -> Tensor:
        """Return the features of crops (M, S, c, c)."""

    def project(self, clips: Tensor) -> Tensor:
        """Return the projected features of (B, N, F)."""


def count_flops(student: nn.Module, teacher: nn.Module, units: Float[Tensor, "M S h w"], views: int) -> dict[str, int]:
    """Count what a step of a method with a student and a teacher computes; a multiplication and an addition are two.

    Convolutions and matrix products are counted, of both networks and their projectors, and backwards wherever a
    gradient goes. Norms, activations, the comparison of the projected features and the optimizer are left out.

    Args:
        student: An `Encoder` that takes the gradient; left on the meta device, as is the teacher.
        teacher: An `Encoder` whose projector may take one.
        units: Crops, volume by volume; only their shape counts.
        views: Crops a volume.

    Returns:
        `encoder_forward_flops`, of the student's encoder alone; `forward_flops`; `step_flops`, forward and backward,
        each operation counted once; `recomputed_flops`, which gradient checkpointing computes a second time.
    """
    student, teacher, units = student.to("meta"), teacher.to("meta"), units.to("meta")

    def forward() -> Tensor:
        return _projected(student, units, views, grad=True).sum() + _projected(teacher, units, views, grad=False).sum()

    checkpointed = [module for module in student.modules() if getattr(module, "use_checkpoint", False)]
    executed = count_executed(lambda: torch.autograd.backward(forward()))
    _set_checkpointing(checkpointed, on=False)
    step = count_executed(lambda: torch.autograd.backward(forward()))
    with torch.no_grad():
        encoder, both = count_executed(lambda: _clips(student, units)), count_executed(forward)
    _set_checkpointing(checkpointed, on=True)
    return {
        "encoder_forward_flops": encoder,
        "forward_flops": both,
        "step_flops": step,
        "recomputed_flops": executed - step,
    }


def count_executed(compute: Callable[[], object]) -> int:
    """Do some work and return the operations of the convolutions and matrix products that torch ran for it."""
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward_flops}
    ) as counter:
        compute()
    return int(counter.get_total_flops())


def convolution_backward_flops(
    gradient: Sequence[int], _images: Sequence[int], weight: Sequence[int], *settings: Any, **_: Any
) -> int:
    """Count a convolution's backward pass: for each of both gradients as much as its forward pass.

    torch 2.15 counts the backward pass of a grouped convolution as if it had one group, which makes a depthwise one
    hundreds of times too large.

    Args:
        gradient: Shape of the output's gradient (N, C_out, …).
        weight: Shape (C_out, C_in / groups, …) of a convolution that isn't transposed.
        settings: The operator's other arguments; the last tells which of the gradients of input, weight and bias are
            wanted.
    """
    wanted = settings[-1]
    return 2 * prod(gradient) * prod(weight[1:]) * (bool(wanted[0]) + bool(wanted[1]))


def _clips(network: Any, units: Tensor) -> Tensor:
    clips: Tensor = network.clip(units)
    return clips


def _projected(network: Any, units: Tensor, views: int, grad: bool) -> Tensor:
    with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
        clips = _clips(network, units)
    projected: Tensor = network.project(rearrange(clips, "(b n) f -> b n f", n=views))
    return projected


def _set_checkpointing(modules: Sequence[Any], on: bool) -> None:
    for module in modules:
        module.use_checkpoint = on
