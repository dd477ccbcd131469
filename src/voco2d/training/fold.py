"""Trains the classifier on the patients outside one fold and keeps the epoch that does best on those inside."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.sampling import epoch_rows
from voco2d.errors import CheckpointError, NonFiniteLossError
from voco2d.losses.injury import InjuryLoss
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import class_probabilities
from voco2d.progress import Progress
from voco2d.training.fold_plan import FoldPlan
from voco2d.training.fold_step import FoldStep, predict_rows
from voco2d.training.gate_fit import add_feature_distance
from voco2d.training.initialisation import Initialisation
from voco2d.training.out_of_fold import (
    known_mean,
    patient_scores,
    prediction_table,
    validation_key,
    weights_path,
)
from voco2d.training.pretrain_checkpoint import load_tensors, save_tensors
from voco2d.training.run_dir import RunDir
from voco2d.training.selection import Selection
from voco2d.training.tuning import frozen_parts, set_training
from voco2d.training.weight_average import WeightAverage

_log = logging.getLogger(__name__)


class FoldTraining:
    """The state of one fold's training: network, optimizer, schedule, average, and the best epoch so far.

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
        self._targets = plan.args.target_set
        self._fabric = fabric
        self._dataset = dataset
        self._run = run
        torch.manual_seed(derived_seed(plan.args.seed, plan.number))
        model, optimizer, self._schedule = plan.build(start)
        self._frozen = list(frozen_parts(model.backbone))
        self._model, self._optimizer = fabric.setup(model, optimizer)
        self._graded = self._model
        self._average: WeightAverage | None = None
        if plan.args.ema > 0:
            self._average = WeightAverage(model, plan.args.ema).to(fabric.device)
            self._graded = fabric.setup_module(self._average.network)
        self._step = FoldStep(plan, fabric, self._model, self._optimizer)
        self._selection = Selection(plan.args.select, plan.args.patience)
        self._epoch = 0

    @property
    def done(self) -> int:
        """Epochs finished."""
        return self._epoch

    def run(self, progress: Progress) -> pd.DataFrame:
        """Train the epochs that are left and return the held-out predictions of the one that is kept.

        Raises:
            NonFiniteLossError: The loss, or an output for a held-out volume, became NaN or infinite.
        """
        while self._epoch < self._plan.args.epochs and not self._selection.stops:
            begun = time.monotonic()
            train_loss = self._train_epoch(progress)
            val_loss, val_score = self._validate()
            self._epoch += 1
            self._run.log(
                {
                    "fold": self._plan.number,
                    "epoch": self._epoch,
                    "train_loss": train_loss,
                    "val_loss": val_loss,
                    validation_key(self._targets): val_score,
                    "lr": float(self._schedule.get_last_lr()[0]),
                    "seconds": time.monotonic() - begun,
                }
            )
            self._save_state()
        left = self._plan.args.epochs - self._epoch
        if left:
            _log.info("fold %d stopped after epoch %d: its loss fell no more", self._plan.number, self._epoch)
        progress.advance(left * self._plan.steps_per_epoch)
        add_feature_distance(weights_path(self._run.path, self._plan.number), self._plan, self._fabric, self._dataset)
        return prediction_table(self._dataset.cohort, self._plan.held_out, self._selection.probabilities.numpy())

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
            state = load_tensors(path)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._fabric.strategy.precision.load_state_dict(state["scale"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            kept = state["selection"]
        except (CheckpointError, RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: damaged; delete it to train this fold from its start") from error
        self._selection = Selection(self._plan.args.select, self._plan.args.patience, **kept)
        self._epoch = state["epoch"]
        _log.info("fold %d goes on after epoch %d", self._plan.number, self._epoch)

    def _train_epoch(self, progress: Progress) -> float:
        plan, args = self._plan, self._plan.args
        seed = (args.seed, plan.number, self._epoch)
        set_training(self._model, self._frozen)
        torch.manual_seed(derived_seed(*seed))  # dropout
        labels = {name: values.numpy() for name, values in self._dataset.labels(plan.train).items()}
        rows = epoch_rows(plan.train, labels, args.sampling, seed)
        total = 0.0
        for number, batch in enumerate(self._dataset.batches(rows, args.batch_size, seed)):
            loss = self._step.take(
                self._dataset, batch, f"fold {plan.number}, epoch {self._epoch + 1}, step {number + 1}"
            )
            self._schedule.step()
            if self._average is not None:
                self._average.update(self._model)
            total += loss * len(batch.rows)
            progress.advance(note=f"fold {plan.number} epoch {self._epoch + 1}/{args.epochs} loss {loss:.3f}")
        return total / len(plan.train)

    def _validate(self) -> tuple[float | None, float | None]:
        """Return loss and score on the held-out patients; without any, keep the last epoch."""
        plan, args = self._plan, self._plan.args
        if len(plan.held_out) == 0:
            if self._epoch + 1 == args.epochs:
                self._selection.offer(self._epoch + 1, 0.0, 0.0, torch.empty(0, len(self._targets.columns)))
                self._save_best({})
            return None, None
        logits = predict_rows(
            self._graded, self._fabric, self._dataset, plan.held_out, args.batch_size, args.test_flips, self._targets
        )
        loss, probabilities = self._validation_loss(logits), class_probabilities(logits, self._targets)
        table = prediction_table(self._dataset.cohort, plan.held_out, probabilities.numpy())
        score = known_mean(patient_scores(table, self._dataset.cohort.labels, self._targets))
        if self._selection.offer(self._epoch + 1, score, loss, probabilities):
            self._save_best({validation_key(self._targets): score})
        return loss, score

    def _validation_loss(self, logits: Mapping[str, Float[Tensor, "n _"]]) -> float:
        loss = float(InjuryLoss(self._plan.args.loss, self._targets)(logits, self._dataset.labels(self._plan.held_out)))
        bad = [name for name, values in logits.items() if not values.isfinite().all()]
        if bad or not np.isfinite(loss):
            told = f"the output for {', '.join(bad)}" if bad else "the loss"
            raise NonFiniteLossError(
                f"fold {self._plan.number}, epoch {self._epoch + 1}, validation: {told} is not finite; "
                "lower optim.lr, or set precision=fp32"
            )
        return loss

    def _save_best(self, scores: Mapping[str, float]) -> None:
        results = {"fold": self._plan.number, "best_epoch": self._selection.epoch, **scores}
        path = weights_path(self._run.path, self._plan.number)
        save_weights(path, self._graded.state_dict(), {**self._plan.metadata, **results})

    def _save_state(self) -> None:
        state = {
            "epoch": self._epoch,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scale": self._fabric.strategy.precision.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "selection": self._selection.state(),
        }
        save_tensors(resume_path(self._run.path, self._plan.number), state)


def resume_path(run: Path, fold: int) -> Path:
    """Name the file with which an interrupted fold goes on; it is there while the fold is unfinished."""
    return run / f"resume_fold_{fold}.pt"


def derived_seed(*numbers: int) -> int:
    """Mix a seed with what it is used for into a seed of its own."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
