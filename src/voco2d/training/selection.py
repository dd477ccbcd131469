"""Which epoch of a fold is kept, and when to stop early; decided on the fold's validation patients alone."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Select = Literal["rsna", "score", "loss", "last"]
"""`rsna` and `score` are the same: the validation score, which is the RSNA score where the targets are RSNA's."""


@dataclass
class Selection:
    """The epochs of a fold so far.

    Args:
        select: Keep the epoch with the lowest validation score, the lowest validation loss, or the last one.
        patience: Stop when the validation loss has not fallen for so many epochs; 0 never stops.
        epoch: The epoch that is kept, from 1 on.
        score: Its validation score.
        loss: Its validation loss.
        probabilities: (n, classes) what it says of the held-out series.
        lowest: The lowest validation loss so far.
        waited: Epochs since then.
    """

    select: Select = "rsna"
    patience: int = 0
    epoch: int = 0
    score: float = float("inf")
    loss: float = float("inf")
    probabilities: Tensor = field(default_factory=lambda: torch.empty(0))
    lowest: float = float("inf")
    waited: int = 0

    @property
    def stops(self) -> bool:
        """Whether training should end."""
        return 0 < self.patience <= self.waited

    def offer(self, epoch: int, score: float, loss: float, probabilities: Tensor) -> bool:
        """Take an epoch into account and return whether it is the one to keep so far."""
        self.waited = 0 if loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss)
        lower = score < self.score or self.epoch == 0  # no score can be told where no held-out patient has a label
        better = {"rsna": lower, "score": lower, "loss": loss < self.loss, "last": True}[self.select]
        if better:
            self.epoch, self.score, self.loss, self.probabilities = epoch, score, loss, probabilities
        return better

    def state(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {key: value for key, value in vars(self).items() if key not in ("select", "patience")}
