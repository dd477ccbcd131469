"""Grading a volume and its mirror images, and averaging what comes out."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.models.flips import FLIP_AXES as FLIP_AXES
from voco2d.models.flips import check_flips as check_flips
from voco2d.targets import RSNA_2023, TargetSet


def flip_averaged(
    model: nn.Module, volumes: Float[Tensor, "B S C H W"], flips: Sequence[str], targets: TargetSet = RSNA_2023
) -> dict[str, Float[Tensor, "B _"]]:
    """Grade volumes as they are and mirrored along each of `flips` by itself; average the probabilities.

    Args:
        model: A classifier in evaluation mode.
        volumes: As `Classifier.forward` takes them.
        flips: Names of `FLIP_AXES`; none returns the logits as they are.
        targets: What is graded.

    Returns:
        Target name → (B, classes) logits, float32: with flips, logarithms of the mean probabilities.
    """
    graded = [model(volumes), *(model(volumes.flip(FLIP_AXES[name])) for name in flips)]
    if not flips:
        return {name: graded[0][name].float() for name in targets}
    return {name: _log_mean([logits[name] for logits in graded]) for name in targets}


def _log_mean(logits: Sequence[Float[Tensor, "B _"]]) -> Float[Tensor, "B _"]:
    logarithms = torch.stack([values.float().log_softmax(dim=1) for values in logits])
    return logarithms.logsumexp(dim=0) - torch.tensor(float(len(logits))).log()
