"""SimCLR's loss against its equation, written out pair by pair."""

import math

import pytest
import torch

from voco2d.losses.nt_xent import nt_xent_loss

pytest.importorskip("lightly")


def literal(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """Equation 1 of arXiv 2002.05709: views 2k and 2k + 1 are of one image."""
    views = [view for pair in zip(first.tolist(), second.tolist(), strict=True) for view in pair]

    def similarity(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    total = 0.0
    for i in range(len(views)):
        j = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(similarity(views[i], views[k]) / temperature) for k in range(len(views)) if k != i)
        total -= math.log(math.exp(similarity(views[i], views[j]) / temperature) / others)
    return total / len(views)


@pytest.mark.parametrize(("count", "temperature"), [(2, 0.1), (5, 0.5)])
def test_it_is_the_publications(count: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, count, 7, generator=generator)
    loss = nt_xent_loss(first, second, temperature)
    assert loss.item() == pytest.approx(literal(first, second, temperature), rel=1e-5)


def test_it_is_in_float32_under_autocast_and_both_views_take_a_gradient() -> None:
    views = torch.randn(2, 4, 7, requires_grad=True)
    first, second = views.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent_loss(first, second, 0.1)
    torch.testing.assert_close(loss, nt_xent_loss(first.float(), second.float(), 0.1), rtol=1e-6, atol=0)
    loss.backward()
    assert views.grad is not None
    assert (views.grad.abs().sum((1, 2)) > 0).all()
