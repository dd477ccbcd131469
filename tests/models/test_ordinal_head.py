import numpy as np
import pytest
import torch

from voco2d.evaluation.metrics import decide
from voco2d.models.ordinal_head import OrdinalHead
from voco2d.targets import Target


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_it_starts_undecided_and_its_classes_sum_to_one(classes: int) -> None:
    head = OrdinalHead(4, classes)
    torch.testing.assert_close(head(torch.zeros(1, 4)).exp(), torch.full((1, classes), 1 / classes))
    probabilities = head(100 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))).exp()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(50))


def test_it_is_the_difference_of_cumulative_probabilities() -> None:
    torch.manual_seed(0)
    head = OrdinalHead(3, 4).double()
    with torch.no_grad():
        head.gaps += torch.randn(2)
    features = torch.randn(6, 3, dtype=torch.float64)
    above = torch.sigmoid(head.score(features) - head.thresholds())  # P(class > k)
    edges = torch.cat([torch.ones(6, 1), above, torch.zeros(6, 1)], dim=1)
    torch.testing.assert_close(head(features).exp().double(), edges[:, :-1] - edges[:, 1:], atol=1e-5, rtol=1e-4)


def test_a_rising_score_moves_the_called_class_up_and_never_back() -> None:
    head = OrdinalHead(1, 4)
    with torch.no_grad():
        head.score.weight.fill_(1)
    probabilities = head(torch.linspace(-8, 8, 200)[:, None]).exp().detach().numpy()
    called = decide(probabilities, Target("a", tuple("abcd"), (1.0,) * 4, "ordinal"))
    assert (np.diff(called) >= 0).all()
    assert set(called) == {0, 1, 2, 3}


def test_thresholds_keep_their_order_whatever_is_learnt() -> None:
    head = OrdinalHead(2, 4)
    with torch.no_grad():
        head.gaps.fill_(-100)
    assert (head.thresholds().diff() > 0).all()
    assert head(torch.randn(3, 2)).isfinite().all()
