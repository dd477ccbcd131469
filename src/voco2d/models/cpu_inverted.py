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
from voco2d.models.cpu_expansion import Expansion


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
        wide = None if layers.expand is None else Expansion(x, layers.expand[0])
        first = _IDENTITY if wide is None or layers.expand is None else wide.measure(layers.expand[1])
        stride, pad = conv.stride[0], int(conv.padding[0])
        height, width = (_out_size(size, conv) for size in x.shape[1:3])
        deep = empty(count, height, width, conv.out_channels)
        weight = _taps(conv.weight)
        sums = np.zeros((2, conv.out_channels))
        centre = _NoCentre
        for part in _parts(x, wide):
            a, out = x[part] if wide is None else wide[part], deep[part]
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
        ctx.moments = None if wide is None else wide.moments
        ctx.save_for_backward(x, None if wide is None else wide.kept, deep, narrow, pooled, gate, *norms)
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
        wide = None if layers.expand is None else Expansion(x, layers.expand[0], kept, ctx.moments)
        weight = _taps(conv.weight)
        channels = conv.in_channels
        dz1, taps, sums = empty(*x.shape[:3], channels), np.zeros(weight.shape), np.zeros((2, channels))
        constants = (first.scale, first.shift, first.mean, wide is not None, weight)
        geometry = (conv.stride[0], int(conv.padding[0]))
        for part in _parts(x, wide):
            a = x[part] if wide is None else wide[part]
            maps = (dz2[part], deep[part], factors, *geometry, dz1[part])
            spread(cpu_depthwise.depthwise_gradient, len(a), a, *constants, *maps, totals=(taps, sums))
        del dz2
        kernel = torch.from_numpy(taps.astype(np.float32)).permute(2, 0, 1)[:, None]
        deepening = [kernel, *normal]
        if wide is None:
            if layers.skips:
                dz1 += grad
            return (dz1, None, None, *deepening, *projecting, *squeezing)
        dx, expanding = wide.backward(dz1, sums, first, grad if layers.skips else None)
        return (dx, None, None, *expanding, *deepening, *projecting, *squeezing)


_NoCentre = torch.zeros(0)


def _parts(x: Tensor, wide: Expansion | None) -> Iterator[slice]:
    return chunks(len(x), x[0].numel()) if wide is None else wide.parts()


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


def _taps(weight: Tensor) -> Tensor:
    """Return a depthwise kernel (C, 1, k, k) as (k, k, C)."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous()


def _out_size(size: int, conv: nn.Conv2d) -> int:
    return (size + 2 * int(conv.padding[0]) - conv.kernel_size[0]) // conv.stride[0] + 1
