import copy

import pytest
import torch
from torch import nn

from voco2d.models.lightly_heads import byol_predictor, byol_projector, dino_projector, simclr_projector

pytest.importorskip("lightly")

HEADS = {
    "simclr": (simclr_projector(12, 16, 8), 8),
    "byol": (byol_projector(12, 16, 8), 8),
    "dino": (dino_projector(12, 16, 8, 20), 20),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_their_widths_and_no_buffers(name: str) -> None:
    head, out = HEADS[name]
    assert head(torch.rand(5, 12)).shape == (5, out)
    assert not dict(head.named_buffers())
    head.eval()
    features = torch.rand(5, 12)
    assert torch.equal(head(features), head.train()(features))


@pytest.mark.parametrize("name", HEADS)
def test_a_teacher_can_be_copied_after_a_pass(name: str) -> None:
    head, _ = HEADS[name]
    features = torch.rand(5, 12)
    assert torch.equal(copy.deepcopy(head)(features), head(features))


def test_the_predictor_keeps_the_width() -> None:
    assert byol_predictor(16, 8)(torch.rand(5, 8)).shape == (5, 8)


def test_dinos_logits_are_cosines_with_prototypes_whose_length_is_fixed() -> None:
    head = dino_projector(12, 16, 8, 20)
    assert head(100 * torch.rand(5, 12)).abs().max() <= 1 + 1e-5
    last = head.get_submodule("last_layer")
    assert isinstance(last, nn.Linear)
    torch.testing.assert_close(last.weight.norm(dim=1), torch.ones(20))
    assert [p.requires_grad for p in last.parameters()] == [False, True]
