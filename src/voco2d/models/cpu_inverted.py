"""The inverted residual block of `cpu_blocks`: its way forward and its way back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from voco2d.models import cpu_depthwise, cpu_kernels
from voco2d.models.cpu_arena import empty, empty_like
from voco2d.models.cpu_blocks import _EMPTY, _IDENTITY, Norm, chunks, measure, spread


@dataclass(frozen=True)
class Layers:
    """The layers of a block.

    Args:
        expand: Pointwise convolution and its norm, if there are any; SiLU follows.
        depthwise: Depthwise convolution and its norm; SiLU follows.
        project: Pointwise convolution and its norm.
        squeeze: Turns the means over the places (N, C) into gates (N, C), if there are any.
        skips: Whether the block's input is added to its output.
    """

    expand: tuple[nn.Conv2d, _BatchNorm] | None
    depthwise: tuple[nn.Conv2d, _BatchNorm]
    project: tuple[nn.Conv2d, _BatchNorm]
    squeeze: Callable[[Tensor], Tensor] | None
    skips: bool

    def parameters(self, squeezing: tuple[nn.Parameter, ...]) -> list[Tensor]:
        """Return the parameters in the order of `InvertedResidualStep.forward`."""
        pairs = [pair for pair in (self.expand, self.depthwise, self.project) if pair is not None]
        return [tensor for conv, norm in pairs for tensor in (conv.weight, norm.weight, norm.bias)] + [*squeezing]


class InvertedResidualStep(Function):
    """A block on x (N, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: Layers, squeezing: int, *params: Tensor) -> Tensor:
        """Return the block's output (N, H', W', C')."""
        conv, bn = layers.depthwise
        count, active = len(x), layers.expand is not None
        wide = _Expansion(x, layers)
        first = _IDENTITY if layers.expand is None else wide.measure(layers.expand[1])
        stride, pad = conv.stride[0], int(conv.padding[0])
        height, width = (_out_size(size, conv) for size in x.shape[1:3])
        deep = empty(count, height, width, conv.out_channels)
        weight = _taps(conv.weight)
        sums = np.zeros((2, conv.out_channels))
        centre = _NoCentre
        for part in wide.parts():
            a, out = wide[part], deep[part]
            spread(cpu_depthwise.depthwise, len(a), a, first.scale, first.shift, active, weight, stride, pad, out)
            if centre is _NoCentre:
                centre = out[0].mean((0, 1))
            spread(cpu_kernels.moments, len(a), out.flatten(1, 2), centre, totals=(sums,))
        second = measure(bn, centre, sums, count * height * width)
        pooled, gate = _gates(deep, second, layers)
        narrow, third = _project(deep, second, gate, *layers.project)
        out = empty_like(narrow)
        spread(
            cpu_kernels.normalise,
            count,
            narrow.flatten(1, 2),
            third.scale,
            third.shift,
            x.flatten(1, 2),
            layers.skips,
            out.flatten(1, 2),
        )
        ctx.layers, ctx.squeezing = layers, params[len(params) - squeezing :]
        norms = [tensor for norm in (first, second, third) for tensor in vars(norm).values()]
        ctx.save_for_backward(x, wide.kept, deep, narrow, pooled, gate, *norms)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and the parameters."""
        layers: Layers = ctx.layers
        x, kept, deep, narrow, pooled, gate, *rest = ctx.saved_tensors
        first, second, third = (Norm(*rest[start : start + 4]) for start in (0, 4, 8))
        grad = grad.contiguous()
        dz2, projecting, squeezing, sums = _project_back(grad, deep, narrow, pooled, gate, second, third, ctx)
        factors, *normal = second.gradient(sums, dz2.shape[0] * dz2.shape[1] * dz2.shape[2])
        conv = layers.depthwise[0]
        active = layers.expand is not None
        wide = _Expansion(x, layers, kept)
        weight = _taps(conv.weight)
        channels = conv.in_channels
        dz1, taps, sums = empty(*x.shape[:3], channels), np.zeros(weight.shape), np.zeros((2, channels))
        constants = (first.scale, first.shift, first.mean, active, weight)
        geometry = (conv.stride[0], int(conv.padding[0]))
        for part in wide.parts():
            a = wide[part]
            maps = (dz2[part], deep[part], factors, *geometry, dz1[part])
            spread(cpu_depthwise.depthwise_gradient, len(a), a, *constants, *maps, totals=(taps, sums))
        del dz2
        kernel = torch.from_numpy(taps.astype(np.float32)).permute(2, 0, 1)[:, None]
        deepening = [kernel, *normal]
        if not active:
            if layers.skips:
                dz1 += grad
            return (dz1, None, None, *deepening, *projecting, *squeezing)
        dx, expanding = _expand_back(dz1, sums, x, wide, first, grad if layers.skips else None, layers)
        return (dx, None, None, *expanding, *deepening, *projecting, *squeezing)


_CHEAP = 40
"""Up to so many channels of a block's input its expansion is computed again rather than kept: it takes most memory."""
_NoCentre = torch.zeros(0)


class _Expansion:
    """The expanded map before its norm, a part at a time: kept as a whole, or made again where that is cheap.

    Args:
        x: (N, H, W, C) the block's input; what is convolved where the block doesn't expand.
        layers: Of the block.
        kept: What another `_Expansion` of the same input has kept.
    """

    def __init__(self, x: Tensor, layers: Layers, kept: Tensor | None = None) -> None:
        self._x, self._conv = x, None if layers.expand is None else layers.expand[0]
        self._channels = layers.depthwise[0].in_channels
        self._made = torch.empty(0)
        self._keeps = self._conv is not None and self._conv.in_channels > _CHEAP
        self.kept = kept

    def parts(self) -> Iterator[slice]:
        """Return the parts it is to be asked for."""
        return chunks(len(self._x), self._x[0, ..., 0].numel() * self._channels)

    def __getitem__(self, part: slice) -> Tensor:
        """Return a part, (n, H, W, C); it may be overwritten when the next one is asked for."""
        if self._conv is None:
            return self._x[part]
        if self.kept is not None:
            return self.kept[part]
        x = self._x[part]
        if len(self._made) < len(x):
            self._made = torch.empty(*x.shape[:3], self._channels)
        return self._make(x, self._made[: len(x)], self._conv)

    def measure(self, bn: _BatchNorm) -> Norm:
        """Return the norm of the whole map, and keep the map unless it is cheap to make."""
        assert self._conv is not None
        count, height, width, _ = self._x.shape
        kept = empty(count, height, width, self._channels) if self._keeps else None
        sums, centre = np.zeros((2, self._channels)), _NoCentre
        for part in self.parts():
            a = self[part] if kept is None else self._make(self._x[part], kept[part], self._conv)
            a = a.flatten(1, 2)
            centre = a[0].mean(0) if centre is _NoCentre else centre
            spread(cpu_kernels.moments, len(a), a, centre, totals=(sums,))
        self.kept = kept
        return measure(bn, centre, sums, count * height * width)

    def _make(self, x: Tensor, out: Tensor, conv: nn.Conv2d) -> Tensor:
        torch.mm(x.flatten(0, 2), conv.weight.detach().flatten(1).t(), out=out.flatten(0, 2))
        return out


def _gates(deep: Tensor, norm: Norm, layers: Layers) -> tuple[Tensor | None, Tensor | None]:
    """Return the means (N, C) over the places after the activation, and what squeeze and excitation makes of them."""
    if layers.squeeze is None:
        return None, None
    pooled = torch.empty(deep.shape[0], deep.shape[3])
    spread(cpu_kernels.pool, len(deep), deep.flatten(1, 2), norm.scale, norm.shift, pooled)
    with torch.no_grad():
        gate = layers.squeeze(pooled)
    return pooled, gate


def _project(deep: Tensor, norm: Norm, gate: Tensor | None, conv: nn.Conv2d, bn: _BatchNorm) -> tuple[Tensor, Norm]:
    """Return the projected map before its norm, and the norm."""
    count, height, width, channels = deep.shape
    narrow = empty(count, height, width, conv.out_channels)
    weight = conv.weight.detach().flatten(1).t()
    sums, centre = np.zeros((2, conv.out_channels)), _NoCentre
    for part in chunks(count, deep[0].numel()):
        a = deep[part].flatten(1, 2)
        y = torch.empty_like(a)
        own = _EMPTY if gate is None else gate[part]
        spread(cpu_kernels.activate, len(a), a, norm.scale, norm.shift, own, gate is not None, y)
        out = narrow[part].flatten(0, 2)
        torch.mm(y.view(-1, channels), weight, out=out)
        centre = out[: height * width].mean(0) if centre is _NoCentre else centre
        spread(cpu_kernels.moments, len(a), narrow[part].flatten(1, 2), centre, totals=(sums,))
    return narrow, measure(bn, centre, sums, count * height * width)


def _project_back(
    grad: Tensor,
    deep: Tensor,
    narrow: Tensor,
    pooled: Tensor | None,
    gate: Tensor | None,
    second: Norm,
    third: Norm,
    ctx: Any,
) -> tuple[Tensor, list[Tensor], list[Tensor], np.ndarray]:
    """Go back to before the second norm's activation: its dz, the gradients of parameters, and the norm's sums."""
    conv = ctx.layers.project[0]
    count, height, width, channels = deep.shape
    places = height * width
    sums = np.zeros((2, conv.out_channels))
    spread(cpu_kernels.gradient_sums, count, grad.flatten(1, 2), narrow.flatten(1, 2), third.mean, totals=(sums,))
    factors, *normal = third.gradient(sums, count * places)
    weight = conv.weight.detach().flatten(1)
    kernel = torch.zeros_like(weight)
    squeezing = [torch.zeros_like(param) for param in ctx.squeezing]
    dz, sums = empty_like(deep), np.zeros((2, channels))
    for part in chunks(count, deep[0].numel()):
        a = deep[part].flatten(1, 2)
        size = len(a)
        d = torch.empty(size, places, conv.out_channels)
        spread(cpu_kernels.norm_gradient, size, grad[part].flatten(1, 2), narrow[part].flatten(1, 2), factors, d)
        d = d.view(-1, conv.out_channels)
        y = torch.empty_like(a)
        own = _EMPTY if gate is None else gate[part]
        spread(cpu_kernels.activate, size, a, second.scale, second.shift, own, gate is not None, y)
        kernel.addmm_(d.t(), y.view(-1, channels))
        torch.mm(d, weight, out=y.view(-1, channels))
        back: Any = _EMPTY
        if pooled is not None and gate is not None:
            gated = torch.empty_like(gate[part])
            spread(cpu_kernels.gate_gradient, size, y, a, second.scale, second.shift, gated)
            back = _squeeze_back(gated, pooled[part], squeezing, ctx) / places
        constants = (y, a, second.scale, second.shift, second.mean, own, back, gate is not None)
        spread(cpu_kernels.activation_gradient, size, *constants, dz[part].flatten(1, 2), totals=(sums,))
    return dz, [kernel.view_as(conv.weight), *normal], squeezing, sums


def _squeeze_back(grad: Tensor, pooled: Tensor, totals: list[Tensor], ctx: Any) -> Tensor:
    """Return the gradient (N, C) of the means, and add those of the gate's parameters to `totals`."""
    with torch.enable_grad():
        means = pooled.detach().requires_grad_()
        gate = ctx.layers.squeeze(means)
    back, *params = torch.autograd.grad(gate, [means, *ctx.squeezing], grad)
    for total, share in zip(totals, params, strict=True):
        total += share
    return back


def _expand_back(
    dz: Tensor, sums: np.ndarray, x: Tensor, wide: _Expansion, norm: Norm, residual: Tensor | None, layers: Layers
) -> tuple[Tensor, list[Tensor]]:
    """Go back to the block's input: its gradient, and those of parameters."""
    assert layers.expand is not None
    conv = layers.expand[0]
    factors, *normal = norm.gradient(sums, dz.numel() // dz.shape[3])
    weight = conv.weight.detach().flatten(1)
    kernel = torch.zeros_like(weight)
    dx = empty_like(x)
    for part in wide.parts():
        a = wide[part].flatten(1, 2)
        d = torch.empty_like(a)
        spread(cpu_kernels.norm_gradient, len(a), dz[part].flatten(1, 2), a, factors, d)
        d = d.view(-1, a.shape[2])
        kernel.addmm_(d.t(), x[part].flatten(0, 2))
        out = dx[part].flatten(0, 2)
        if residual is None:
            torch.mm(d, weight, out=out)
        else:
            torch.addmm(residual[part].flatten(0, 2), d, weight, out=out)
    return dx, [kernel.view_as(conv.weight), *normal]


def _taps(weight: Tensor) -> Tensor:
    """Return a depthwise kernel (C, 1, k, k) as (k, k, C)."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous()


def _out_size(size: int, conv: nn.Conv2d) -> int:
    return (size + 2 * int(conv.padding[0]) - conv.kernel_size[0]) // conv.stride[0] + 1
