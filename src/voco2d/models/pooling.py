"""Poolings: from the feature map of a slice to one vector."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError

_LEAST = 1e-6
"""What GeM takes for values below it, since roots of them have no gradient."""


class AveragePooling(nn.Module):
    """Mean over the plane."""

    copies = 1
    """Width of the result over that of the map."""

    def forward(self, maps: Float[Tensor, "N D h w"]) -> Float[Tensor, "N out"]:
        """Reduce each map to one vector."""
        return maps.mean(dim=(2, 3))


class MaxPooling(nn.Module):
    """Maximum over the plane."""

    copies = 1

    def forward(self, maps: Float[Tensor, "N D h w"]) -> Float[Tensor, "N out"]:
        """Reduce each map to one vector."""
        return torch.amax(maps, dim=(2, 3))


class GemPooling(nn.Module):
    """Generalised mean (mean of x^p)^(1/p) over the plane, with p learnt from 3 on (Radenović et al., 2018)."""

    copies = 1

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, maps: Float[Tensor, "N D h w"]) -> Float[Tensor, "N out"]:
        """Reduce each map to one vector, in float32 also under autocast."""
        with torch.autocast(maps.device.type, enabled=False):
            raised = maps.float().clamp(min=_LEAST).pow(self.power)
            return raised.mean(dim=(2, 3)).pow(1 / self.power)


class BothPooling(nn.Module):
    """Mean and maximum, one after the other."""

    copies = 2

    def forward(self, maps: Float[Tensor, "N D h w"]) -> Float[Tensor, "N out"]:
        """Reduce each map to one vector."""
        return torch.cat([maps.mean(dim=(2, 3)), torch.amax(maps, dim=(2, 3))], dim=1)


POOLINGS: Mapping[str, Callable[[], AveragePooling | MaxPooling | GemPooling | BothPooling]] = {
    "avg": AveragePooling,
    "max": MaxPooling,
    "gem": GemPooling,
    "both": BothPooling,
}
"""Name → constructor."""


def check_pooling(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        ConfigError: The message lists the known ones.
    """
    if name not in POOLINGS:
        raise ConfigError(f"pooling={name} is not known; choose {', '.join(POOLINGS)}")
