"""What every self-supervised method gives the training loop.

A step has a heavy part, which encodes each unit by itself, and a light one, which compares all of them. Keeping the two
apart is what lets the loop encode piece by piece and on several devices while the loss is still that of the whole
batch (feature caching: Gao et al., arXiv 2101.06983).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from voco2d.errors import CheckpointError


@dataclass(frozen=True)
class Batch:
    """What a method is shown in one step.

    Args:
        units: (M, S, h, w) this process's units in order, intensities 0…1; all slices of a unit are encoded together.
        views: Units a volume; M is a multiple of it.
    """

    units: Float[Tensor, "M S h w"]
    views: int


@dataclass(frozen=True)
class CropBatch(Batch):
    """The crops of some volumes: a volume's units are its R random crops and then its K base crops.

    Args:
        overlap: (B, R, K) share of each random crop's area in each base crop, of all processes' volumes.
        partner: (B,) index of the volume each is compared with, of all processes' volumes.
    """

    overlap: Float[Tensor, "B R K"]
    partner: Int[Tensor, " B"]


@dataclass(frozen=True)
class StepOutput:
    """What a method makes of a batch.

    Args:
        terms: The parts of the loss by name; the loss is their sum.
        features: (N, D) the student's features, without gradient, for watching.
        similarity: (B, R, K) of random crops to the base crops of their volume, −1…1, without gradient; None where a
            method has no base crops.
        overlap: (B, R, K) what the similarity should be like, or None.
    """

    terms: Mapping[str, Float[Tensor, ""]]
    features: Float[Tensor, "N D"]
    similarity: Float[Tensor, "B R K"] | None = None
    overlap: Float[Tensor, "B R K"] | None = None

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()


class Method(nn.Module, ABC):
    """A self-supervised method: networks, a loss, and what happens around an optimizer step.

    `ENCODERS` names the children whose gradient comes from a process's own units alone, so that it is summed over
    processes; every other gradient comes from `contrast`, which sees the units of all processes on each of them.
    """

    ENCODERS: ClassVar[tuple[str, ...]] = ("student.backbone",)

    @abstractmethod
    def encode(self, units: Float[Tensor, "M S h w"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return the student's features of units, each by itself but for batch norm; the heavy part.

        Args:
            units: Any of a batch.
            seeds: M numbers that decide what chance does with each unit, so that it doesn't matter which units are
                encoded together, nor where; without them torch's own generator decides.
        """

    def teach(self, units: Float[Tensor, "M S h w"]) -> Float[Tensor, "M T"] | None:
        """Return the teacher's features of units, without gradient; None where a method has no teacher."""
        del units
        return None

    @abstractmethod
    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N T"] | None, batch: Batch) -> StepOutput:
        """Compute the loss from the features of the whole batch; the light part.

        Args:
            student: Of all processes' units, volume by volume.
            teacher: Likewise, or None.
            batch: This process's batch; what it says of all processes' volumes is what counts here.
        """

    def forward(self, batch: Batch) -> StepOutput:
        """Compute the loss of a batch in one go, in one process."""
        return self.contrast(self.encode(batch.units), self.teach(batch.units), batch)

    def before_step(self, share: float) -> None:
        """Update what follows before the optimizer's step; `share` of the training, 0…1, is done."""

    def after_step(self, share: float) -> None:
        """Update what takes no gradient after the optimizer's step; `share` of the training, 0…1, is done."""

    def teacher_distance(self) -> float | None:
        """Return ‖teacher − student‖ / ‖student‖ over the backbone's parameters; None without a teacher."""
        return None

    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """Return the networks by the name that starts the names of their tensors in a checkpoint."""

    def weights(self) -> dict[str, Tensor]:
        """Return all tensors under the names they are saved by: `student.backbone.*`, `student.projector.*`, …."""
        return {
            f"{name}.{key}": tensor for name, net in self.networks().items() for key, tensor in net.state_dict().items()
        }

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take back what `weights` returned.

        Raises:
            CheckpointError: Names or shapes differ.
        """
        for name, network in self.networks().items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
            try:
                network.load_state_dict(own, strict=True)
            except RuntimeError as error:
                raise CheckpointError(f"the {name}'s weights are of another architecture: {error}") from error
