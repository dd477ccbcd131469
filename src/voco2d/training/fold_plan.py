"""What one fold's training is made of, and the network, optimizer and schedule that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from voco2d.errors import ConfigError
from voco2d.losses.injury import InjuryLossArgs
from voco2d.models.classifier import Classifier, ClassifierArgs
from voco2d.training.initialisation import Initialisation
from voco2d.training.optim import OptimArgs, build_optimizer, build_schedule


@dataclass(frozen=True)
class FoldPlan:
    """What one fold's training is made of.

    Args:
        number: The fold.
        train: Rows of `Cohort.series` to learn from.
        held_out: Rows of `Cohort.series` to validate on; without any, the last epoch is kept.
        test: Rows of `Cohort.series` to grade at the end.
        epochs: Passes over `train`.
        batch_size: Volumes a step.
        seed: With the fold's number and the epoch it decides every random draw.
        classifier: Architecture.
        optim: Optimizer and schedule.
        loss: Terms of the loss.
        metadata: What the weights file tells about them, besides the fold's results.
    """

    number: int
    train: Int64[np.ndarray, " train"]
    held_out: Int64[np.ndarray, " held_out"]
    test: Int64[np.ndarray, " test"]
    epochs: int
    batch_size: int
    seed: int
    classifier: ClassifierArgs
    optim: OptimArgs
    loss: InjuryLossArgs
    metadata: Mapping[str, Any]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.train) // self.batch_size)

    def build(self, start: Initialisation) -> tuple[Classifier, Optimizer, LambdaLR]:
        """Build the network with its backbone at `start`, the optimizer and the schedule.

        Raises:
            ConfigError: The optimizer can't have these settings, or there is no such aggregator.
            CheckpointError: The backbone of `start` is another one.
        """
        model = Classifier(self.classifier)
        start.apply(model.backbone)
        try:
            optimizer = build_optimizer(model.parameters(), self.optim)
        except ValueError as error:  # torch's own checks
            raise ConfigError(f"optim: {error}; change that setting") from error
        return model, optimizer, build_schedule(optimizer, self.optim, self.epochs * self.steps_per_epoch)
