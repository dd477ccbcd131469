"""The expansion of an inverted residual block: its pointwise convolution and norm, both ways, on a CPU.

The expanded map a = x · Wᵀ takes more memory than all else in a block, and more time to read than to make. So its
statistics are had from x alone: with S = Σ x and G = Σ xᵀx over all places, Σ a = W · S and Σ a² = diag(W · G · Wᵀ). On
the way back the gradient of a is dz · f₀ + a · f₁ + f₂ (a batch norm's, see `Norm.gradient`), whose products with x and
W need no a either.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voco2d.models.cpu_arena import empty, empty_like
from voco2d.models.cpu_blocks import Norm, chunks, measure

_CHEAP = 40
"""Up to so many channels of a block's input its expansion is made again rather than kept."""


class Expansion:
    """The expanded map before its norm, a part at a time: kept as a whole, or made again where that is cheap.

    Args:
        x: (N, H, W, C) the block's input.
        conv: The pointwise convolution.
        kept: What another `Expansion` of the same input has kept.
        moments: Likewise.
    """

    def __init__(
        self, x: Tensor, conv: nn.Conv2d, kept: Tensor | None = None, moments: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self._x, self._conv = x, conv
        self._weight = conv.weight.detach().flatten(1)
        self._made = torch.empty(0)
        self._is_kept = kept is not None
        self.kept = kept
        self.moments = _moments(x, self.parts()) if moments is None else moments
        if kept is None and conv.in_channels > _CHEAP:
            self.kept = empty(*x.shape[:3], conv.out_channels)

    def parts(self) -> Iterator[slice]:
        """Return the parts it is to be asked for."""
        return chunks(len(self._x), self._x[0, ..., 0].numel() * self._conv.out_channels)

    def __getitem__(self, part: slice) -> Tensor:
        """Return a part, (n, H, W, F); unless kept, it is overwritten when the next one is asked for."""
        if self._is_kept and self.kept is not None:
            return self.kept[part]
        x = self._x[part]
        if self.kept is not None:
            out = self.kept[part]
        else:
            if len(self._made) < len(x):
                self._made = torch.empty(*x.shape[:3], self._conv.out_channels)
            out = self._made[: len(x)]
        torch.mm(x.flatten(0, 2), self._weight.t(), out=out.flatten(0, 2))
        return out

    def measure(self, bn: _BatchNorm) -> Norm:
        """Return the norm of the whole map."""
        weight = self._weight.double()
        total, gram = self.moments
        count = self._x.numel() // self._x.shape[3]
        mean = weight @ (total / count)
        squares = ((weight @ (gram - torch.outer(total, total) / count)) * weight).sum(1)
        sums = np.stack([np.zeros(len(mean)), squares.numpy()])
        return measure(bn, mean, sums, count)

    def backward(
        self, dz: Tensor, sums: np.ndarray, norm: Norm, residual: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Go back to the block's input: its gradient, and those of the convolution's and the norm's parameters.

        Args:
            dz: (N, H, W, F) of the map after the norm.
            sums: (2, F) Σ dz and Σ dz · (a − mean).
            norm: What `measure` gave.
            residual: (N, H, W, C) what is added to the input's gradient, if anything.
        """
        x, weight = self._x, self._weight
        factors, *normal = norm.gradient(sums, dz.numel() // dz.shape[3])
        scale, slope, shift = torch.from_numpy(factors)
        back = scale[:, None] * weight
        around = (weight.double().t() * slope) @ weight.double()
        around_single, constant = around.float(), shift @ weight
        dx, kernel = empty_like(x), torch.zeros_like(weight, dtype=torch.float64)
        for part in self.parts():
            own, d, out = x[part].flatten(0, 2), dz[part].flatten(0, 2), dx[part].flatten(0, 2)
            kernel += d.t() @ own
            torch.addmm(constant, own, around_single, out=out)
            out.addmm_(d, back)
            if residual is not None:
                out += residual[part].flatten(0, 2)
        total, gram = self.moments
        kernel *= scale[:, None]
        kernel += slope[:, None] * (weight.double() @ gram) + torch.outer(shift.double(), total)
        return dx, [kernel.float().view_as(self._conv.weight), *normal]


def _moments(x: Tensor, parts: Iterator[slice]) -> tuple[Tensor, Tensor]:
    """Return Σ x (C,) and Σ xᵀx (C, C) over all places, float64: differences are taken of them."""
    channels = x.shape[3]
    total, gram = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for part in parts:
        values = x[part].flatten(0, 2).double()
        total += values.sum(0)
        gram.addmm_(values.t(), values)
    return total, gram
