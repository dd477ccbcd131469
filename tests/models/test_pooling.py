import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.models.pooling import POOLINGS, GemPooling, check_pooling

MAPS = torch.rand(3, 4, 5, 6)


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_keeps_its_contract(name: str) -> None:
    pooling = POOLINGS[name]()
    maps = MAPS.clone().requires_grad_()
    pooled = pooling(maps)
    assert pooled.shape == (3, 4 * pooling.copies)
    pooled.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_both_is_mean_and_maximum() -> None:
    torch.testing.assert_close(POOLINGS["both"]()(MAPS), torch.cat([MAPS.mean((2, 3)), MAPS.amax((2, 3))], dim=1))


@pytest.mark.parametrize(("power", "name"), [(1.0, "avg"), (200.0, "max")])
def test_gem_lies_between_mean_and_maximum(power: float, name: str) -> None:
    gem = GemPooling()
    gem.power.data.fill_(power)
    torch.testing.assert_close(gem(MAPS), POOLINGS[name]()(MAPS), rtol=0.02, atol=0.02)


def test_gem_takes_maps_below_zero() -> None:
    maps = -MAPS.clone().requires_grad_()
    GemPooling()(maps).sum().backward()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="pooling=sum is not known; choose avg, max, gem, both"):
        check_pooling("sum")
