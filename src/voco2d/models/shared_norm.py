"""Batch norm over the batches of several processes, on any device (torch's own works on GPUs alone)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


class SharedBatchNorm(nn.Module):
    """Takes the place of a batch-norm layer, under the same names; the statistics are those of all processes.

    The mean is summed first and then the squares of what deviates from it, which is exact to rounding where the
    difference of squares is not.

    Args:
        layer: The layer to replace, 1D or 2D; timm's activation and drop after it are kept.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.eps, self.momentum = layer.eps, layer.momentum
        self.track_running_stats = layer.track_running_stats
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))
        kept: Any = layer
        self.drop: nn.Module = getattr(kept, "drop", nn.Identity())
        self.act: nn.Module = getattr(kept, "act", nn.Identity())
        self.train(layer.training)

    def forward(self, features: Float[Tensor, "N F *place"]) -> Float[Tensor, "N F *place"]:
        """Normalise over all processes' N and places."""
        if self.training or self.running_mean is None or self.running_var is None:
            mean, variance, count = self._statistics(features.float())
            self._remember(mean.detach(), variance.detach(), count)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (1, -1, *[1] * (features.ndim - 2))
        normal = features * scale.view(shape).to(features.dtype) + shift.view(shape).to(features.dtype)
        changed: Tensor = self.act(self.drop(normal))
        return changed

    def _statistics(self, features: Tensor) -> tuple[Tensor, Tensor, float]:
        axes = [axis for axis in range(features.ndim) if axis != 1]
        count = features.numel() / features.shape[1] * distributed.get_world_size()
        mean = _total(features.sum(axes)) / count
        shape = (1, -1, *[1] * (features.ndim - 2))
        variance = _total((features - mean.view(shape)).square().sum(axes)) / count
        return mean, variance, count

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        weight = self.momentum or 0.0
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance * count / max(count - 1, 1), weight)


def share_norms(network: nn.Module) -> None:
    """Put a `SharedBatchNorm` in the place of every batch-norm layer that keeps statistics, in place.

    Those without belong to projectors, which already see the features of all processes.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and child.track_running_stats:
                setattr(module, name, SharedBatchNorm(child))


class _Total(Function):
    """The sum over all processes; so is its gradient, since each process holds a part of the loss."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        del context
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        del context
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)
    return total
