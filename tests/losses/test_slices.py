import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from voco2d.errors import ConfigError
from voco2d.losses.slices import SliceLossArgs, known_slices, slice_loss

LOGITS = torch.randn(3, 4, 2)


def test_only_known_slices_count() -> None:
    values = torch.randint(0, 2, (3, 4, 2)).float()
    values[0, :, 1] = float("nan")
    by_target = [
        binary_cross_entropy_with_logits(LOGITS[..., 0], values[..., 0]),
        binary_cross_entropy_with_logits(LOGITS[1:, :, 1], values[1:, :, 1]),
    ]
    torch.testing.assert_close(slice_loss(LOGITS, values), torch.stack(by_target).mean())


def test_parts_sum_to_the_batch() -> None:
    values = torch.rand(3, 4, 2)
    values[1, 2] = float("nan")
    known = known_slices(values)
    parts = slice_loss(LOGITS[:1], values[:1], known) + slice_loss(LOGITS[1:], values[1:], known)
    torch.testing.assert_close(parts, slice_loss(LOGITS, values))


def test_where_nothing_is_known_nothing_is_learnt() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = slice_loss(logits, torch.full((3, 4, 2), float("nan")))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_one_known_slice_is_enough() -> None:
    values = torch.full((3, 4, 1), float("nan"))
    values[2, 1] = 1
    torch.testing.assert_close(slice_loss(LOGITS[..., :1], values), -LOGITS[2, 1, 0].sigmoid().log())


def test_a_negative_weight_is_refused() -> None:
    assert [SliceLossArgs(weight=weight).weight for weight in (0.0, 0.5)] == [0.0, 0.5]
    with pytest.raises(ConfigError, match=r"slice_loss\.weight=-1"):
        SliceLossArgs(weight=-1.0)
