"""An exponential moving average of a network's weights, which often grades better than the last step's."""

import copy

import torch
from torch import nn

_RISE = 10
"""The average keeps at most (1 + t) / (10 + t) of itself after t steps, so that it soon forgets the start (TensorFlow's
`ExponentialMovingAverage`)."""


class WeightAverage(nn.Module):
    """The average of the weights of a network; batch-norm statistics follow too, counters are copied.

    Args:
        model: The network to follow.
        decay: Share of itself the average keeps in a step once it is settled, 0…1.
    """

    steps: torch.Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow the network after a step."""
        self.steps += 1
        steps = int(self.steps)
        weight = 1 - min(self._decay, (1 + steps) / (_RISE + steps))
        pairs = list(zip(self.network.state_dict().values(), model.state_dict().values(), strict=True))
        floating = [(own, other) for own, other in pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in floating], [other for _, other in floating], weight)
        for own, other in pairs:
            if not own.is_floating_point():
                own.copy_(other)
