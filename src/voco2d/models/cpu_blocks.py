"""An inverted residual block, and a norm with its activation, as single steps of autograd on a CPU.

A block keeps its input and what leaves each convolution, nothing else: activations are computed again on the way back.
Work is done a few images at a time, so that it stays in the processor's cache. The norms see the whole batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from voco2d.models import cpu_kernels
from voco2d.models.cpu_arena import empty, empty_like

_CHUNK = 1 << 21
"""Values of the widest map that are worked on at a time: 8 MB."""
_FEWEST = 4
"""Images that are worked on at a time, however large."""
_SHARES = 16
"""Shares in which sums over images are made, and threads that work on them at most."""
_EMPTY = np.zeros((0, 0), np.float32)
_NONE = torch.zeros(0)


@dataclass(frozen=True)
class Norm:
    """A batch norm of one batch: z = a · scale + shift.

    Args:
        scale: (C,) weight / deviation.
        shift: (C,) bias − mean · scale.
        mean: (C,) of the batch.
        inverse: (C,) 1 / deviation.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor

    @np.errstate(over="ignore", invalid="ignore")
    def gradient(self, sums: np.ndarray, count: int) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return the factors of `norm_gradient`, and the gradients of weight and bias.

        Args:
            sums: (2, C) Σ g and Σ g · (a − mean) of the gradient g of z.
            count: Values a channel.
        """
        scale, mean, inverse = (_array(tensor).astype(np.float64) for tensor in (self.scale, self.mean, self.inverse))
        slope = -scale * inverse**2 * sums[1] / count
        factors = np.stack([scale, slope, -scale * sums[0] / count - slope * mean]).astype(np.float32)
        return factors, torch.from_numpy((inverse * sums[1]).astype(np.float32)), torch.from_numpy(_single(sums[0]))


_IDENTITY = Norm(_NONE, _NONE, _NONE, _NONE)


@np.errstate(over="ignore", invalid="ignore")  # the training loop looks for what is not finite, and says so
def measure(layer: _BatchNorm, centre: Tensor, sums: np.ndarray, count: int) -> Norm:
    """Return the norm of a batch, and let the layer's running statistics follow as torch does.

    Args:
        layer: With weight and bias.
        centre: (C,) what was taken off the values before they were summed.
        sums: (2, C) of the values and their squares.
        count: Values a channel.
    """
    offset = sums[0] / count
    mean = _array(centre) + offset
    variance = np.maximum(sums[1] / count - offset**2, 0)
    if layer.track_running_stats and layer.running_mean is not None and layer.running_var is not None:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.add_(1)
        weight = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(torch.from_numpy(_single(mean)), weight)
        layer.running_var.lerp_(torch.from_numpy(_single(variance * count / max(count - 1, 1))), weight)
    inverse = 1 / np.sqrt(variance + layer.eps)
    scale = _array(layer.weight) * inverse
    shift = _array(layer.bias) - mean * scale
    return Norm(*(torch.from_numpy(_single(values)) for values in (scale, shift, mean, inverse)))


class NormActivation(Function):
    """Batch norm and SiLU of a (N, P, C) map; keeps only its input."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor, layer: _BatchNorm) -> Tensor:
        """Return y."""
        del weight, bias
        centre = a[0].mean(0)
        sums = np.zeros((2, a.shape[2]))
        spread(cpu_kernels.moments, len(a), a, centre, totals=(sums,))
        norm = measure(layer, centre, sums, a.shape[0] * a.shape[1])
        out = empty_like(a)
        spread(cpu_kernels.activate, len(a), a, norm.scale, norm.shift, _EMPTY, False, out)
        ctx.save_for_backward(a, *vars(norm).values())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of a, weight and bias."""
        a, *rest = ctx.saved_tensors
        norm = Norm(*rest)
        dz, sums = empty_like(a), np.zeros((2, a.shape[2]))
        constants = (a, norm.scale, norm.shift, norm.mean, _EMPTY, _EMPTY, False)
        spread(cpu_kernels.activation_gradient, len(a), grad.contiguous(), *constants, dz, totals=(sums,))
        factors, weight, bias = norm.gradient(sums, a.shape[0] * a.shape[1])
        spread(cpu_kernels.norm_gradient, len(a), dz, a, factors, dz)
        return dz, weight, bias, None


class FirstConvolution(Function):
    """Convolution of images (N, H, W, C) of few channels: a product with their patches, which are cut again later."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
        """Return (N, H', W', F)."""
        ctx.save_for_backward(x, weight)
        ctx.geometry = (weight.shape[2], stride, pad)
        kernel = weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
        shape = patches(x[:1], *ctx.geometry).shape
        out = empty(len(x), *shape[1:3], len(weight))
        for part in chunks(len(x), out[0].numel()):
            torch.mm(patches(x[part], *ctx.geometry).flatten(0, 2), kernel, out=out[part].flatten(0, 2))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        """Return the gradient of the weight; images take none."""
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        total = torch.zeros(len(weight), weight[0].numel())
        for part in chunks(len(x), grad[0].numel()):
            total.addmm_(grad[part].flatten(0, 2).t(), patches(x[part], *ctx.geometry).flatten(0, 2))
        _, channels, k, _ = weight.shape
        return None, total.view(-1, k, k, channels).permute(0, 3, 1, 2).contiguous(), None, None


def patches(x: Tensor, k: int, stride: int, pad: int) -> Tensor:
    """Return what each place of a convolution sees: (N, H, W, C) → (N, H', W', k · k · C)."""
    height, width = ((size + 2 * pad - k) // stride + 1 for size in x.shape[1:3])
    padded = nn.functional.pad(x, (0, 0, pad, pad, pad, pad))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    taps = [padded[:, u : u + rows : stride, v : v + columns : stride] for u in range(k) for v in range(k)]
    return torch.cat(taps, dim=3)


def chunks(count: int, values: int) -> Iterator[slice]:
    """Part `count` images of `values` values each, alike for any number of threads."""
    size = max(_CHUNK // values, _FEWEST)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@np.errstate(over="ignore", invalid="ignore")  # the training loop looks for what is not finite, and says so
def spread(kernel: Callable[..., None], count: int, *args: Any, totals: Sequence[np.ndarray] = ()) -> None:
    """Call `kernel(*args, *totals, start, stop)` for parts of `count` images, one a thread of torch.

    Args:
        kernel: Takes arrays.
        count: Images.
        args: Tensors are passed as arrays.
        totals: What is added to. Images are summed in shares, and these in order, so that no bit of the sums depends on
            the number of threads.
    """
    arrays = [_array(value) if isinstance(value, Tensor) else value for value in args]
    shares = min(_SHARES, count)
    parts = [np.zeros((shares, *total.shape)) for total in totals]
    threads = min(torch.get_num_threads(), shares)
    bounds = [-(-(shares * thread // threads) * count // shares) for thread in range(threads + 1)]
    jobs = [_pool(threads).submit(kernel, *arrays, *parts, start, stop) for start, stop in pairwise(bounds[1:])]
    kernel(*arrays, *parts, 0, bounds[1])
    for job in jobs:
        job.result()
    for part, total in zip(parts, totals, strict=True):
        total += part.sum(0)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
