"""Aggregators: from one feature vector a slice to one a volume."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError

_MOST_HEADS = 4
"""Attention heads of the transformer, fewer where they don't divide its width."""
_LONGEST_WAVE = 1000.0
"""Slices of the longest wave of the positional encoding."""


@dataclass(frozen=True)
class AggregatorArgs:
    """Settings of an aggregator; one that has no use for a setting leaves it alone.

    Args:
        hidden: Units of each direction of `lstm` and `gru`, half the width of `transformer`, units of `attention`.
        bidirectional: Whether `lstm` and `gru` go along the slices both ways, or from superior to inferior only.
        layers: Layers of `lstm`, `gru` and `transformer`.
    """

    hidden: int = 128
    bidirectional: bool = True
    layers: int = 1


class Aggregator(nn.Module):
    """Turns (B, S, D) slice features into a vector a slice, and those into one a volume.

    Both are of width `num_features`; slices are given from superior to inferior.
    """

    num_features: int

    @abstractmethod
    def states(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B S out"]:
        """Describe each slice, knowing the others where the aggregator looks at them."""

    @abstractmethod
    def reduce(self, states: Float[Tensor, "B S out"]) -> Float[Tensor, "B out"]:
        """Reduce the slices of each volume to one vector."""

    def forward(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B out"]:
        """Reduce the slice features of each volume to one vector."""
        return self.reduce(self.states(features))


class MaxAggregator(Aggregator):
    """Maximum over the slices; blind to their order."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.num_features = in_features

    def states(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B S out"]:
        """See `Aggregator.states`."""
        return features

    def reduce(self, states: Float[Tensor, "B S out"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.reduce`."""
        return torch.amax(states, dim=1)


class MeanAggregator(MaxAggregator):
    """Mean over the slices; blind to their order."""

    def reduce(self, states: Float[Tensor, "B S out"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.reduce`."""
        return states.mean(dim=1)


class LstmAggregator(MaxAggregator):
    """LSTM along the slices, then the maximum over them (the paper's read-out: bidirectional, 128)."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:
        super().__init__(in_features, args)
        self.lstm = _recurrent(nn.LSTM, in_features, args)
        self.num_features = (1 + args.bidirectional) * args.hidden

    def states(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B S out"]:
        """See `Aggregator.states`."""
        states: Tensor = self.lstm(features)[0]
        return states


class GruAggregator(MaxAggregator):
    """GRU along the slices, then the maximum over them."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:
        super().__init__(in_features, args)
        self.gru = _recurrent(nn.GRU, in_features, args)
        self.num_features = (1 + args.bidirectional) * args.hidden

    def states(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B S out"]:
        """See `Aggregator.states`."""
        states: Tensor = self.gru(features)[0]
        return states


class TransformerAggregator(MaxAggregator):
    """Pre-norm transformer encoder over the slices, which know their position, then the maximum over them."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:
        super().__init__(in_features, args)
        width = 2 * args.hidden
        self.project = nn.Linear(in_features, width)
        layer = nn.TransformerEncoderLayer(
            width, math.gcd(width, _MOST_HEADS), 2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, args.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.num_features = width

    def states(self, features: Float[Tensor, "B S D"]) -> Float[Tensor, "B S out"]:
        """See `Aggregator.states`."""
        projected = self.project(features)
        encoded: Tensor = self.encoder(projected + _positions(projected))
        return encoded


class AttentionAggregator(MaxAggregator):
    """Gated attention over the slices, a mean with learnt weights (Ilse et al., 2018, eq. 9); blind to their order."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:
        super().__init__(in_features, args)
        self.value = nn.Linear(in_features, args.hidden)
        self.gate = nn.Linear(in_features, args.hidden)
        self.score = nn.Linear(args.hidden, 1)

    def weights(self, states: Float[Tensor, "B S out"]) -> Float[Tensor, "B S 1"]:
        """Weigh the slices of each volume; the weights sum to 1."""
        scores: Tensor = self.score(self.value(states).tanh() * self.gate(states).sigmoid())
        return scores.softmax(dim=1)

    def reduce(self, states: Float[Tensor, "B S out"]) -> Float[Tensor, "B out"]:
        """See `Aggregator.reduce`."""
        return (self.weights(states) * states).sum(dim=1)


AGGREGATORS: Mapping[str, Callable[[int, AggregatorArgs], Aggregator]] = {
    "lstm": LstmAggregator,
    "gru": GruAggregator,
    "transformer": TransformerAggregator,
    "attention": AttentionAggregator,
    "mean": MeanAggregator,
    "max": MaxAggregator,
}
"""Name → constructor taking features a slice and the settings."""


def build_aggregator(name: str, in_features: int, args: AggregatorArgs) -> Aggregator:
    """Build the aggregator called `name`.

    Raises:
        ConfigError: There is none of that name; the message lists those there are.
    """
    if name not in AGGREGATORS:
        raise ConfigError(f"unknown aggregator {name!r}; there are: {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name](in_features, args)


def _recurrent(kind: Callable[..., nn.Module], in_features: int, args: AggregatorArgs) -> nn.Module:
    return kind(in_features, args.hidden, args.layers, batch_first=True, bidirectional=args.bidirectional)


def _positions(features: Float[Tensor, "B S D"]) -> Float[Tensor, "S D"]:
    """Encode slice numbers in sines and cosines (Vaswani et al., 2017, 3.5); an odd width ends in a sine."""
    _, slices, width = features.shape
    steps = torch.arange(0, width, 2, device=features.device)
    phases = torch.arange(slices, device=features.device)[:, None] / _LONGEST_WAVE ** (steps / width)
    encoded = torch.stack([phases.sin(), phases.cos()], dim=2).flatten(1)
    return encoded[:, :width].to(features.dtype)
