"""What makes the crops of a volume differ: the slices they take, mirroring, and intensity."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def spread_slices(generator: np.random.Generator, depth: int, count: int, share: float) -> Int[np.ndarray, " {count}"]:
    """Choose a slice in each of `count` equal parts of a random stretch of the depth.

    Args:
        generator: Source of chance.
        depth: Slices of the volume.
        count: Slices to choose; they repeat where the stretch has fewer.
        share: Smallest share of the depth the stretch spans, 0…1; 1 takes all of it.
    """
    length = depth * generator.uniform(share, 1.0)
    start = generator.uniform(0.0, depth - length)
    inside = (np.arange(count) + generator.random(count)) * length / count
    return np.minimum((start + inside).astype(np.int64), depth - 1)


def mirrored(
    slices: Float[Tensor, "B S H W"], rows: Bool[Tensor, " B"], columns: Bool[Tensor, " B"]
) -> Float[Tensor, "B S H W"]:
    """Mirror the volumes named in `rows` from front to back and those in `columns` from side to side."""
    slices = torch.where(rows[:, None, None, None], slices.flip(-2), slices)
    return torch.where(columns[:, None, None, None], slices.flip(-1), slices)


def vary_intensity(
    crops: Float[Tensor, "B N S c c"], changes: Float[Tensor, "B N 3"], strength: float
) -> Float[Tensor, "B N S c c"]:
    """Change each crop's gamma, contrast and brightness.

    Args:
        crops: Intensities 0…1.
        changes: For each crop the three changes, −1…1.
        strength: Largest change of the logarithm of gamma and contrast; a third of it for brightness, 0…1.

    Returns:
        Intensities 0…1.
    """
    gamma, gain, shift = (changes * strength)[:, :, None, None, None].unbind(-1)
    return ((crops ** gamma.exp() - 0.5) * gain.exp() + 0.5 + shift / 3).clamp(0, 1)
