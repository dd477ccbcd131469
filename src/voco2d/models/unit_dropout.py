"""Dropout whose draws belong to a unit, wherever it is encoded."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class UnitDropout(nn.Module):
    """Dropout as torch's, but what is dropped of a unit depends on that unit's seed alone.

    A batch drops the same whether it is encoded as a whole, in pieces, or by several processes.

    Args:
        rate: Share of values that become 0 in training, 0…1, 1 excluded; the others grow to keep the mean.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, maps: Float[Tensor, "N F h w"], seeds: Sequence[int] | None = None) -> Float[Tensor, "N F h w"]:
        """Drop values of M units, each of which has N / M maps, one unit after another.

        Args:
            maps: Of all units.
            seeds: M numbers, 0…2⁶⁴ − 1; without them torch's own generator decides.
        """
        if not self.training or not self.rate:
            return maps
        if seeds is None:
            return F.dropout(maps, self.rate)
        keep = 1 - self.rate
        mask = torch.empty(maps.shape, dtype=maps.dtype, device=maps.device)
        generator = torch.Generator(maps.device)
        for part, seed in zip(mask.chunk(len(seeds)), seeds, strict=True):
            part.bernoulli_(keep, generator=generator.manual_seed(seed))
        return maps * mask.div_(keep)
