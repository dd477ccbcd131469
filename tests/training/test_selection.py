import pytest
import torch

from voco2d.training.selection import Select, Selection

EPOCHS = [(0.9, 1.0), (0.5, 1.2), (0.6, 0.8), (0.7, 0.9), (0.8, 0.95)]
"""RSNA score and loss of five epochs."""


@pytest.mark.parametrize(("select", "kept"), [("rsna", 2), ("loss", 3), ("last", 5)])
def test_the_epoch_asked_for_is_kept(select: Select, kept: int) -> None:
    selection = Selection(select)
    for epoch, (score, loss) in enumerate(EPOCHS, start=1):
        selection.offer(epoch, score, loss, torch.tensor([epoch]))
    assert (selection.epoch, selection.probabilities.item()) == (kept, kept)
    assert not selection.stops


def test_patience_counts_epochs_in_which_the_loss_did_not_fall() -> None:
    selection = Selection("rsna", patience=2)
    stops = []
    for epoch, (score, loss) in enumerate(EPOCHS, start=1):
        selection.offer(epoch, score, loss, torch.empty(0))
        stops.append(selection.stops)
    assert stops == [False, False, False, False, True]


def test_it_goes_on_from_its_state() -> None:
    selection = Selection("loss", patience=3)
    selection.offer(1, 0.5, 0.7, torch.ones(2))
    again = Selection("loss", 3, **selection.state())
    assert (again.epoch, again.score, again.lowest, again.waited) == (1, 0.5, 0.7, 0)
