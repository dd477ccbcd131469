"""A teacher that follows a student by an exponential moving average."""

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MomentumSchedule = Literal["cosine", "constant"]


class MomentumTeacher(nn.Module):
    """A copy of the student without gradient, moved towards it by `update`.

    Args:
        student: The network to copy and follow.
        momentum: Share of itself the teacher keeps in an update, at the start, 0…1.
        schedule: `cosine` raises the momentum to 1 (BYOL, arXiv 2006.07733), `constant` leaves it.
        buffers: Whether batch-norm statistics follow too; else the teacher's forward passes keep them.
        trained: Name of a child that takes a gradient and doesn't follow, or empty.
    """

    def __init__(
        self, student: nn.Module, momentum: float, schedule: MomentumSchedule, buffers: bool, trained: str = ""
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)
        self._momentum = momentum
        self._schedule = schedule
        self._follows_buffers = buffers
        self._trained = trained
        if trained:
            self.network.get_submodule(trained).requires_grad_(True)
        if buffers:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = 0.0  # the forward pass leaves the statistics to `update`

    def momentum_at(self, share: float) -> float:
        """Return the momentum when `share` of the training, 0…1, is done."""
        if self._schedule == "constant":
            return self._momentum
        return 1 - (1 - self._momentum) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    @torch.no_grad()
    def update(self, student: nn.Module, share: float) -> None:
        """Move towards the `student`; `share` of the training, 0…1, is done."""
        weight = 1 - self.momentum_at(share)
        pairs = _pairs(dict(self.network.named_parameters()), dict(student.named_parameters()), self._trained)
        if self._follows_buffers:
            pairs += _pairs(dict(self.network.named_buffers()), dict(student.named_buffers()), self._trained)
        floating = [(own, other) for own, other in pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in floating], [other for _, other in floating], weight)
        for own, other in pairs:
            if not own.is_floating_point():
                own.copy_(other)

    @torch.no_grad()
    def distance(self, student: nn.Module, child: str) -> float:
        """Return ‖teacher − `student`‖ / ‖`student`‖ over the parameters of the `child` of that name of both."""
        own = list(self.network.get_submodule(child).parameters())
        other = list(student.get_submodule(child).parameters())
        gap = torch.stack([(a - b).norm() for a, b in zip(own, other, strict=True)]).norm()
        return float(gap / torch.stack([b.norm() for b in other]).norm())


def _pairs(own: dict[str, Tensor], other: dict[str, Tensor], left_out: str) -> list[tuple[Tensor, Tensor]]:
    return [(tensor, other[name]) for name, tensor in own.items() if not (left_out and name.startswith(f"{left_out}."))]
