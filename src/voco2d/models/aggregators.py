"""Aggregators: from one feature vector a slice to one a volume."""

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError


class Aggregator(nn.Module):
    """Reduces (B, S, D) slice features to (B, `num_features`)."""

    num_features: int

    @abstractmethod
    def forward(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B out"]:
        """Reduce the slices of each volume, given from superior to inferior, to one vector."""


class LstmAggregator(Aggregator):
    """Bidirectional LSTM along the slices, then the maximum over them (the paper's read-out).

    Args:
        in_features: D, features a slice.
        hidden: Units of each direction.
    """

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_features, hidden, batch_first=True, bidirectional=True)
        self.num_features = 2 * hidden

    def forward(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.forward`."""
        states, _ = self.lstm(features)  # (B, S, 2 * hidden)
        return torch.amax(states, dim=1)


class MeanAggregator(Aggregator):
    """Mean over the slices; blind to their order."""

    def __init__(self, in_features: int, hidden: int) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.num_features = in_features

    def forward(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.forward`."""
        return features.mean(dim=1)


class MaxAggregator(Aggregator):
    """Maximum over the slices; blind to their order."""

    def __init__(self, in_features: int, hidden: int) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.num_features = in_features

    def forward(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.forward`."""
        return torch.amax(features, dim=1)


AGGREGATORS: Mapping[str, Callable[[int, int], Aggregator]] = {
    "lstm": LstmAggregator,
    "mean": MeanAggregator,
    "max": MaxAggregator,
}
"""Name → constructor taking (features a slice, hidden units)."""


def build_aggregator(name: str, in_features: int, hidden: int) -> Aggregator:
    """Build the aggregator called `name`.

    Raises:
        ConfigError: There is none of that name; the message lists those there are.
    """
    if name not in AGGREGATORS:
        raise ConfigError(f"unknown aggregator {name!r}; there are: {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name](in_features, hidden)
