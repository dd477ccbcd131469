"""Trains the classifier on the patients outside one fold and keeps the epoch that does best on those inside."""

import logging
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor, nn

from voco2d.data.classify_dataset import Batch, ClassifyDataset
from voco2d.errors import CheckpointError, NonFiniteLossError
from voco2d.losses.injury import InjuryLoss, injury_terms
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import class_probabilities
from voco2d.progress import Progress
from voco2d.targets import CLASS_COLUMNS
from voco2d.training.fold_plan import FoldPlan
from voco2d.training.initialisation import Initialisation
from voco2d.training.out_of_fold import patient_scores, prediction_table, weights_path
from voco2d.training.pretrain_checkpoint import save_tensors
from voco2d.training.run_dir import RunDir

_log = logging.getLogger(__name__)


@dataclass
class _Best:
    """The best epoch so far; a lower score is better."""

    epoch: int = -1
    score: float = float("inf")
    probabilities: Tensor = field(default_factory=lambda: torch.empty(0))


class FoldTraining:
    """The state of one fold's training: network, optimizer, schedule, and the best epoch so far.

    Args:
        plan: What is trained on what.
        start: Where the backbone starts; the rest starts at random, alike for every start.
        fabric: Device and precision.
        dataset: Volumes and labels.
        run: Where weights, metrics and the state for continuing go.
    """

    def __init__(
        self, plan: FoldPlan, start: Initialisation, fabric: Fabric, dataset: ClassifyDataset, run: RunDir
    ) -> None:
        self._plan = plan
        self._fabric = fabric
        self._dataset = dataset
        self._run = run
        torch.manual_seed(derived_seed(plan.seed, plan.number))
        model, optimizer, self._schedule = plan.build(start)
        self._model, self._optimizer = fabric.setup(model, optimizer)
        self._loss = InjuryLoss(plan.loss)
        self._best = _Best()
        self._epoch = 0

    @property
    def done(self) -> int:
        """Epochs finished."""
        return self._epoch

    def run(self, progress: Progress) -> pd.DataFrame:
        """Train the epochs that are left and return the held-out predictions of the best one.

        Raises:
            NonFiniteLossError: The loss, or an output for a held-out volume, became NaN or infinite.
        """
        while self._epoch < self._plan.epochs:
            begun = time.monotonic()
            train_loss = self._train_epoch(progress)
            val_loss, val_rsna = self._validate()
            self._epoch += 1
            self._run.log(
                {
                    "fold": self._plan.number,
                    "epoch": self._epoch,
                    "train_loss": train_loss,
                    "val_loss": val_loss,
                    "val_rsna": val_rsna,
                    "lr": float(self._schedule.get_last_lr()[0]),
                    "seconds": time.monotonic() - begun,
                }
            )
            self._save_state()
        return prediction_table(self._dataset.cohort, self._plan.held_out, self._best.probabilities.numpy())

    def resume(self) -> None:
        """Continue after the last epoch an interrupted part of the run finished, if it finished one.

        Raises:
            CheckpointError: The state on disk is damaged.
        """
        path = resume_path(self._run.path, self._plan.number)
        if path.is_file():
            self._load_state(path)
        number, epoch = self._plan.number, self._epoch
        self._run.keep_log(lambda record: record.get("fold") != number or record.get("epoch", 0) <= epoch)

    def _load_state(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._fabric.strategy.precision.load_state_dict(state["scale"])
        except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: damaged; delete it to train this fold from its start") from error
        self._best = _Best(**state["best"])
        self._epoch = state["epoch"]
        _log.info("fold %d goes on after epoch %d", self._plan.number, self._epoch)

    def _train_epoch(self, progress: Progress) -> float:
        plan = self._plan
        self._model.train()
        torch.manual_seed(derived_seed(plan.seed, plan.number, self._epoch))  # dropout
        total = 0.0
        batches = self._dataset.batches(plan.train, plan.batch_size, (plan.seed, plan.number, self._epoch))
        for step, batch in enumerate(batches):
            loss = self._step(batch, step)
            total += loss * len(batch.rows)
            progress.advance(note=f"fold {plan.number} epoch {self._epoch + 1}/{plan.epochs} loss {loss:.3f}")
        return total / len(plan.train)

    def _step(self, batch: Batch, step: int) -> float:
        labels = {name: self._fabric.to_device(indices) for name, indices in batch.labels.items()}
        logits = self._model(self._fabric.to_device(batch.volumes))
        loss = self._loss(logits, labels)
        value = float(loss.detach())
        if not np.isfinite(value):
            self._refuse_loss(logits, labels, step)
        self._optimizer.zero_grad()
        self._fabric.backward(loss)
        if self._plan.optim.grad_clip > 0:
            self._clip()
        self._optimizer.step()
        self._schedule.step()
        return value

    def _clip(self) -> None:
        # fp16's scaler skips a step whose gradients overflowed; without it the next loss tells
        self._fabric.clip_gradients(
            self._model, self._optimizer, max_norm=self._plan.optim.grad_clip, error_if_nonfinite=False
        )

    def _refuse_loss(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], step: int) -> None:
        terms = injury_terms(logits, labels, self._plan.loss.any_injury)
        told = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
        raise NonFiniteLossError(
            f"fold {self._plan.number}, epoch {self._epoch + 1}, step {step + 1}: the loss is not finite ({told}); "
            "lower optim.lr, or set precision=fp32"
        )

    def _validate(self) -> tuple[float | None, float | None]:
        """Return loss and RSNA score on the held-out patients; without any, keep the last epoch."""
        if len(self._plan.held_out) == 0:
            if self._epoch + 1 == self._plan.epochs:
                self._best = _Best(self._epoch + 1, probabilities=torch.empty(0, len(CLASS_COLUMNS)))
                self._save_best({})
            return None, None
        logits = predict_rows(self._model, self._fabric, self._dataset, self._plan.held_out, self._plan.batch_size)
        return self._validation_loss(logits), self._keep_if_best(class_probabilities(logits))

    def _validation_loss(self, logits: Mapping[str, Float[Tensor, "n _"]]) -> float:
        loss = float(self._loss(logits, self._dataset.labels(self._plan.held_out)))
        bad = [name for name, values in logits.items() if not values.isfinite().all()]
        if bad or not np.isfinite(loss):
            told = f"the output for {', '.join(bad)}" if bad else "the loss"
            raise NonFiniteLossError(
                f"fold {self._plan.number}, epoch {self._epoch + 1}, validation: {told} is not finite; "
                "lower optim.lr, or set precision=fp32"
            )
        return loss

    def _keep_if_best(self, probabilities: Float[Tensor, "n classes"]) -> float:
        table = prediction_table(self._dataset.cohort, self._plan.held_out, probabilities.numpy())
        score = patient_scores(table, self._dataset.cohort.labels)["mean"]
        if score >= self._best.score:
            return score
        self._best = _Best(self._epoch + 1, score, probabilities)
        self._save_best({"val_rsna": score})
        return score

    def _save_best(self, scores: Mapping[str, float]) -> None:
        results = {"fold": self._plan.number, "best_epoch": self._best.epoch, **scores}
        save_weights(
            weights_path(self._run.path, self._plan.number),
            self._model.state_dict(),
            {**self._plan.metadata, **results},
        )

    def _save_state(self) -> None:
        state = {
            "epoch": self._epoch,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scale": self._fabric.strategy.precision.state_dict(),
            "best": vars(self._best),
        }
        save_tensors(resume_path(self._run.path, self._plan.number), state)


@torch.no_grad()
def predict_rows(
    model: nn.Module, fabric: Fabric, dataset: ClassifyDataset, rows: Int64[np.ndarray, " n"], batch_size: int
) -> dict[str, Float[Tensor, "n _"]]:
    """Grade some series.

    Args:
        model: A classifier that `fabric` has set up; it is left in evaluation mode.
        fabric: Device and precision.
        dataset: The volumes.
        rows: Rows of `Cohort.series`, at least one.
        batch_size: Volumes at a time.

    Returns:
        Target name → logits on the CPU, float32.
    """
    model.eval()
    chunks = [model(fabric.to_device(batch.volumes)) for batch in dataset.batches(rows, batch_size)]
    return {name: torch.cat([chunk[name].float().cpu() for chunk in chunks]) for name in chunks[0]}


def resume_path(run: Path, fold: int) -> Path:
    """Name the file with which an interrupted fold goes on; it is there while the fold is unfinished."""
    return run / f"resume_fold_{fold}.pt"


def derived_seed(*numbers: int) -> int:
    """Mix a seed with what it is used for into a seed of its own."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
