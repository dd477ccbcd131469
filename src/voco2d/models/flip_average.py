"""Grading a volume and its mirror images, and averaging what comes out."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError
from voco2d.targets import TARGETS

FLIP_AXES: Mapping[str, int] = {"depth": 1, "height": 3, "width": 4}
"""What can be mirrored → its axis in (B, S, C, H, W)."""


def check_flips(flips: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        ConfigError: The message lists the known ones.
    """
    unknown = [name for name in flips if name not in FLIP_AXES]
    if unknown or len(set(flips)) < len(flips):
        raise ConfigError(f"test_flips={list(flips)}: choose each of {', '.join(FLIP_AXES)} at most once, or none: []")


def flip_averaged(
    model: nn.Module, volumes: Float[Tensor, "B S C H W"], flips: Sequence[str]
) -> dict[str, Float[Tensor, "B _"]]:
    """Grade volumes as they are and mirrored along each of `flips` by itself; average the probabilities.

    Args:
        model: A classifier in evaluation mode.
        volumes: As `Classifier.forward` takes them.
        flips: Names of `FLIP_AXES`; none returns the logits as they are.

    Returns:
        Target name → (B, classes) logits, float32: with flips, logarithms of the mean probabilities.
    """
    graded = [model(volumes), *(model(volumes.flip(FLIP_AXES[name])) for name in flips)]
    if not flips:
        return {name: graded[0][name].float() for name in TARGETS}
    return {name: _log_mean([logits[name] for logits in graded]) for name in TARGETS}


def _log_mean(logits: Sequence[Float[Tensor, "B _"]]) -> Float[Tensor, "B _"]:
    logarithms = torch.stack([values.float().log_softmax(dim=1) for values in logits])
    return logarithms.logsumexp(dim=0) - torch.tensor(float(len(logits))).log()
