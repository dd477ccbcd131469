"""What every self-supervised method gives the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class CropBatch:
    """The crops of some volumes.

    Args:
        random: (B, R, S, c, c) random crops, intensities 0…1.
        base: (B, K, S, c, c) base crops, intensities 0…1.
        overlap: (B, R, K) share of each random crop's area in each base crop.
        partner: (B,) index of the volume each is compared with, never its own.
    """

    random: Float[Tensor, "B R S c c"]
    base: Float[Tensor, "B K S c c"]
    overlap: Float[Tensor, "B R K"]
    partner: Int[Tensor, " B"]


@dataclass(frozen=True)
class StepOutput:
    """What a method makes of a batch.

    Args:
        terms: The parts of the loss by name; the loss is their sum.
        features: (N, D) the student's features, without gradient, for watching.
        similarity: (B, R, K) of random crops to the base crops of their volume, −1…1, without gradient.
        overlap: (B, R, K) what the similarity should be like.
    """

    terms: Mapping[str, Float[Tensor, ""]]
    features: Float[Tensor, "N D"]
    similarity: Float[Tensor, "B R K"]
    overlap: Float[Tensor, "B R K"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()


class Method(nn.Module, ABC):
    """A self-supervised method: networks, a loss, and what happens after each optimizer step."""

    @abstractmethod
    def forward(self, batch: CropBatch) -> StepOutput:
        """Compute the loss of a batch."""

    @abstractmethod
    def after_step(self, share: float) -> None:
        """Update what takes no gradient.

        Args:
            share: How much of the training is done, 0…1.
        """

    @abstractmethod
    def teacher_distance(self) -> float:
        """Return ‖teacher − student‖ / ‖student‖ over the backbone's parameters."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return all tensors under the names they are saved by: `student.backbone.*`, `student.projector.*`, …."""

    @abstractmethod
    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take back what `weights` returned.

        Raises:
            CheckpointError: Names or shapes differ.
        """
