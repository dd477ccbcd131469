"""BYOL's loss against its equation."""

import pytest
import torch

from voco2d.losses.byol import byol_loss

pytest.importorskip("lightly")


def test_it_is_the_squared_distance_of_unit_vectors() -> None:
    """Equation 2 of arXiv 2006.07733, averaged over images."""
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 5, 7, generator=generator)
    distances = [sum(((p / p.norm() - t / t.norm()) ** 2).tolist()) for p, t in zip(predicted, target, strict=True)]
    assert byol_loss(predicted, target).item() == pytest.approx(sum(distances) / 5, rel=1e-5)


def test_it_lies_in_0_to_4_and_is_float32_under_autocast() -> None:
    features = torch.randn(3, 4)
    assert byol_loss(features, 5 * features).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(features, -features).item() == pytest.approx(4, abs=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert byol_loss(features.bfloat16(), features.bfloat16()).dtype == torch.float32
