import torch

from voco2d.models.heads import Projector


def test_feature_norm_is_per_feature_over_all_crops() -> None:
    projected = Projector(6, 10, "feature")(torch.randn(4, 11, 6, generator=torch.Generator().manual_seed(0)))
    assert projected.shape == (4, 11, 10)
    torch.testing.assert_close(projected.mean((0, 1)), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(projected.var((0, 1), correction=0), torch.ones(10), atol=1e-2, rtol=0)


def test_position_norm_is_per_crop_over_volumes_and_features() -> None:
    """The paper's BatchNorm1d gets (B, crops, D)."""
    projected = Projector(6, 10, "position")(torch.randn(4, 11, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(projected.mean((0, 2)), torch.zeros(11), atol=1e-5, rtol=0)
    assert projected.mean((0, 1)).abs().max() > 1e-2


def test_there_are_three_layers_and_nothing_else_to_learn() -> None:
    state = Projector(6, 10, "feature").state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "layers.0.weight": (10, 6),
        "layers.1.weight": (10, 10),
        "layers.2.weight": (10, 10),
    }
