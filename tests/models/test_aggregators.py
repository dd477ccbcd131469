import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.models.aggregators import AGGREGATORS, AggregatorArgs, AttentionAggregator, build_aggregator

ARGS = AggregatorArgs(hidden=5)
ORDERLY = ("lstm", "gru", "transformer")
"""Aggregators that see the order of the slices."""


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_keeps_its_contract(name: str) -> None:
    aggregator = build_aggregator(name, in_features=6, args=ARGS)
    for slices in (1, 7):
        features = torch.randn(2, slices, 6, requires_grad=True)
        reduced = aggregator(features)
        assert reduced.shape == (2, aggregator.num_features)
        reduced.sum().backward()
        assert features.grad is not None


def test_lstm_is_bidirectional_and_sees_the_order() -> None:
    aggregator = build_aggregator("lstm", in_features=6, args=ARGS)
    features = torch.randn(1, 7, 6)
    assert aggregator.num_features == 10
    assert not torch.allclose(aggregator(features), aggregator(features.flip(1)))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_only_some_see_the_order(name: str) -> None:
    aggregator = build_aggregator(name, in_features=6, args=ARGS).eval()
    features = torch.randn(1, 7, 6)
    assert torch.allclose(aggregator(features), aggregator(features.flip(1)), atol=1e-6) == (name not in ORDERLY)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_one_direction_knows_only_what_came_before(name: str) -> None:
    aggregator = build_aggregator(name, in_features=6, args=AggregatorArgs(hidden=5, bidirectional=False, layers=2))
    assert aggregator.num_features == 5
    features = torch.randn(1, 7, 6)
    later = torch.cat([features[:, :4], torch.randn(1, 3, 6)], dim=1)
    assert torch.equal(aggregator.states(features)[:, :4], aggregator.states(later)[:, :4])


def test_attention_is_a_mean_with_weights_that_sum_to_one() -> None:
    aggregator = build_aggregator("attention", in_features=6, args=ARGS)
    assert isinstance(aggregator, AttentionAggregator)
    features = torch.randn(2, 7, 6)
    weights = aggregator.weights(features)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 1))
    torch.testing.assert_close(aggregator(features), torch.einsum("bsk,bsd->bd", weights, features))


@pytest.mark.parametrize("hidden", [1, 3, 8])
def test_any_width_of_the_transformer_has_heads_and_positions(hidden: int) -> None:
    aggregator = build_aggregator("transformer", 6, AggregatorArgs(hidden=hidden, layers=2))
    assert aggregator(torch.randn(2, 5, 6)).shape == (2, 2 * hidden)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'rnn'; there are: lstm, gru, transformer, attention, mean, max"):
        build_aggregator("rnn", in_features=6, args=ARGS)
