"""The auxiliary loss on single slices: what they show, where that is known."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class SliceLossArgs:
    """Settings of the loss on slices, which only counts where slice labels are given.

    Args:
        weight: Of the loss on slices beside that on volumes; 0 leaves it out.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a loss that would push away from the labels."""
        if self.weight < 0:
            raise ConfigError(f"slice_loss.weight={self.weight}: must be at least 0")


def slice_loss(
    logits: Float[Tensor, "B S targets"],
    values: Float[Tensor, "B S targets"],
    totals: Float[Tensor, " targets"] | None = None,
) -> Float[Tensor, ""]:
    """Average the binary cross-entropy over the slices that are known of each target, then over the targets.

    Args:
        logits: (B, S, targets).
        values: (B, S, targets) 0…1, NaN where it isn't known; between 0 and 1 where it is a share.
        totals: `known_slices` of the batch these are a part of: the losses of all parts sum to that of the batch.

    Returns:
        A scalar, nats, in float32 also under autocast; 0 where nothing is known. A target of which nothing is known in
        the batch counts as 0.
    """
    known = ~values.isnan()
    entropies = F.binary_cross_entropy_with_logits(logits.float(), values.nan_to_num(0.0), reduction="none")
    sums = torch.where(known, entropies, 0.0).sum(dim=(0, 1))
    totals = known_slices(values) if totals is None else totals.to(values.device)
    return (sums / totals.clamp(min=1)).mean()


def known_slices(values: Float[Tensor, "B S targets"]) -> Float[Tensor, " targets"]:
    """Count the slices that are known of each target."""
    return (~values.isnan()).sum(dim=(0, 1)).float()
