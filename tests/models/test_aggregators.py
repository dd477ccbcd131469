import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.models.aggregators import AGGREGATORS, build_aggregator


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_keeps_its_contract(name: str) -> None:
    aggregator = build_aggregator(name, in_features=6, hidden=5)
    for slices in (1, 7):
        features = torch.randn(2, slices, 6, requires_grad=True)
        reduced = aggregator(features)
        assert reduced.shape == (2, aggregator.num_features)
        reduced.sum().backward()
        assert features.grad is not None


def test_lstm_is_bidirectional_and_sees_the_order() -> None:
    aggregator = build_aggregator("lstm", in_features=6, hidden=5)
    features = torch.randn(1, 7, 6)
    assert aggregator.num_features == 10
    assert not torch.allclose(aggregator(features), aggregator(features.flip(1)))


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'gru'; there are: lstm, mean, max"):
        build_aggregator("gru", in_features=6, hidden=5)
