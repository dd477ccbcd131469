import torch

from voco2d.models.unit_dropout import UnitDropout


def test_what_is_dropped_of_a_unit_depends_on_its_seed_alone() -> None:
    dropout = UnitDropout(0.3)
    maps = torch.ones(6, 5, 2, 2)
    whole = dropout(maps, [7, 8, 9])
    parts = torch.cat([dropout(maps[:2], [7]), dropout(maps[2:], [8, 9])])
    assert torch.equal(whole, parts)
    in_other_strides = dropout(maps.contiguous(memory_format=torch.channels_last), [7, 8, 9])
    assert torch.equal(whole, in_other_strides)
    assert not torch.equal(whole[:2], whole[2:4])
    assert not torch.equal(whole[0], whole[1])


def test_the_share_and_the_mean_are_those_of_dropout() -> None:
    dropout = UnitDropout(0.25)
    for seeds in ([1, 2], None):
        dropped = dropout(torch.ones(2, 100, 10, 10), seeds)
        assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
        assert abs(float((dropped == 0).float().mean()) - 0.25) < 0.01


def test_evaluation_and_a_rate_of_0_drop_nothing() -> None:
    maps = torch.rand(2, 3, 1, 1)
    assert UnitDropout(0.0)(maps, [1, 2]) is maps
    assert UnitDropout(0.5).eval()(maps, [1, 2]) is maps
