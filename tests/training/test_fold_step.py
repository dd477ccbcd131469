import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from voco2d.data.classify_dataset import Batch, ClassifyDataset
from voco2d.models.classifier import Classifier, ClassifierArgs
from voco2d.targets import TARGETS
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.fold_plan import FoldPlan
from voco2d.training.fold_step import FoldStep
from voco2d.training.optim import OptimArgs
from voco2d.training.trainer import launch

NETWORK = ClassifierArgs("convnext_atto", hidden=8, dropout=0.0, slice_targets=("bowel", "liver"))
"""Without batch norm."""


class AsTheyAre(ClassifyDataset):
    """A dataset without a store, that gives volumes as they are."""

    def __init__(self) -> None:
        pass

    def inputs(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        return batch.hu.to(device).float() / 100, batch.slices


def batch_of(volumes: int) -> Batch:
    rng = np.random.default_rng(1)
    labels = {name: torch.from_numpy(rng.integers(0, len(target.classes), volumes)) for name, target in TARGETS.items()}
    slices = torch.from_numpy(rng.random((volumes, 3, 2), dtype=np.float32))
    slices[0, :, 1] = float("nan")
    hu = torch.from_numpy(rng.integers(0, 100, (volumes, 3, 1, 32, 32)).astype(np.int16))
    return Batch(hu, labels, slices, torch.arange(volumes))


def gradients(model: Classifier, accumulate: int) -> tuple[float, Sequence[Tensor]]:
    """Take a step of plain SGD at rate 1, so that what the weights lose is the gradient."""
    own = copy.deepcopy(model)
    args = FinetuneArgs(accumulate=accumulate, optim=OptimArgs(name="sgd", lr=1.0, grad_clip=0.0))
    rows = np.arange(1)
    plan = FoldPlan(0, rows, rows, rows, args, NETWORK, {})
    fabric = launch("cpu", "fp32", 0)
    wrapped, optimizer = fabric.setup(own, torch.optim.SGD(own.parameters(), lr=1.0))
    loss = FoldStep(plan, fabric, wrapped, optimizer).take(AsTheyAre(), batch_of(7), "here")
    pairs = zip(model.parameters(), own.parameters(), strict=True)
    return loss, [before.detach() - after.detach() for before, after in pairs]


@pytest.mark.parametrize("accumulate", [2, 3, 7, 50])
def test_accumulated_steps_are_those_of_the_whole_batch(accumulate: int) -> None:
    torch.manual_seed(0)
    model = Classifier(NETWORK)
    loss, whole = gradients(model, 1)
    summed, parts = gradients(model, accumulate)
    assert summed == pytest.approx(loss, rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)
