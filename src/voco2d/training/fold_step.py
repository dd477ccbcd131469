"""One optimizer step of fine-tuning, in parts where memory is short; and grading without one."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from voco2d.data.classify_dataset import Batch, ClassifyDataset
from voco2d.errors import NonFiniteLossError
from voco2d.losses.injury import InjuryLoss, injury_terms, weight_totals
from voco2d.losses.slices import known_slices, slice_loss
from voco2d.models.classifier import SLICE_LOGITS
from voco2d.models.flip_average import flip_averaged
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.training.fold_plan import FoldPlan


class FoldStep:
    """Takes optimizer steps on batches.

    A batch is computed in `FinetuneArgs.accumulate` parts. Both losses are sums over a whole batch divided by what the
    whole batch weighs, so the parts' losses and gradients add up to the batch's; only batch norm sees a part at a time.

    Args:
        plan: Settings.
        fabric: Device and precision.
        model: The classifier, set up by `fabric`.
        optimizer: Its optimizer, set up by `fabric`.
    """

    def __init__(self, plan: FoldPlan, fabric: Fabric, model: nn.Module, optimizer: Optimizer) -> None:
        self._args = plan.args
        self._fabric = fabric
        self._model = model
        self._optimizer = optimizer
        self._targets = plan.args.target_set
        self._loss = InjuryLoss(plan.args.loss, self._targets)

    def take(self, dataset: ClassifyDataset, batch: Batch, where: str) -> float:
        """Take a step on a batch and return its loss.

        Args:
            dataset: Makes of a batch what the network sees.
            batch: Volumes and labels.
            where: Which step of the training this is, for messages.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        totals, known = weight_totals(batch.labels, self._targets), known_slices(batch.slices)
        self._optimizer.zero_grad()
        value = 0.0
        for part in batch.parts(self._args.accumulate):
            labels = {name: self._fabric.to_device(indices) for name, indices in part.labels.items()}
            volumes, slices = dataset.inputs(part, self._fabric.device)
            logits = self._model(volumes)
            loss = self._loss(logits, labels, totals)
            if SLICE_LOGITS in logits:
                loss = loss + self._args.slice_loss.weight * slice_loss(logits[SLICE_LOGITS], slices, known)
            value += float(loss.detach())
            if not np.isfinite(value):
                self._refuse(logits, labels, where)
            self._fabric.backward(loss)
        if self._args.optim.grad_clip > 0:
            # fp16's scaler skips a step whose gradients overflowed; without it the next loss tells
            self._fabric.clip_gradients(
                self._model, self._optimizer, max_norm=self._args.optim.grad_clip, error_if_nonfinite=False
            )
        self._optimizer.step()
        return value

    def _refuse(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], where: str) -> None:
        terms = injury_terms(logits, labels, self._args.loss.any_injury, targets=self._targets)
        told = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
        raise NonFiniteLossError(f"{where}: the loss is not finite ({told}); lower optim.lr, or set precision=fp32")


@torch.no_grad()
def predict_rows(
    model: nn.Module,
    fabric: Fabric,
    dataset: ClassifyDataset,
    rows: Int64[np.ndarray, " n"],
    batch_size: int,
    flips: Sequence[str] = (),
    targets: TargetSet = RSNA_2023,
) -> dict[str, Float[Tensor, "n _"]]:
    """Grade some series.

    Args:
        model: A classifier that `fabric` has set up; it is left in evaluation mode.
        fabric: Device and precision.
        dataset: The volumes.
        rows: Rows of `Cohort.series`, at least one.
        batch_size: Volumes at a time.
        flips: Mirror images whose grades are averaged with those of the volume, as for `flip_averaged`.
        targets: What is graded.

    Returns:
        Target name → logits on the CPU, float32.
    """
    model.eval()
    graded = [
        flip_averaged(model, dataset.inputs(batch, fabric.device)[0], flips, targets)
        for batch in dataset.batches(rows, batch_size)
    ]
    return {name: torch.cat([logits[name].cpu() for logits in graded]) for name in graded[0]}
