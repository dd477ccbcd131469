"""Changes of intensity in a batch of volumes: gamma, histogram, noise, and rectangles cut out."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def gamma(volumes: Float[Tensor, "B S C H W"], exponents: Float[Tensor, " B"]) -> Float[Tensor, "B S C H W"]:
    """Raise intensities 0…1 to a power, one a volume."""
    return volumes.pow(exponents[:, None, None, None, None])


def remap_histogram(
    volumes: Float[Tensor, "B S C H W"], shifts: Float[Tensor, "B inner"]
) -> Float[Tensor, "B S C H W"]:
    """Map intensities by a rising line of pieces through shifted knots; 0 and 1 stay.

    Args:
        volumes: (B, S, C, H, W), 0…1.
        shifts: −1…1 for each inner knot, as a share of half the distance of two knots, so that the order is kept.
    """
    pieces = shifts.shape[1] + 1
    knots = torch.linspace(0, 1, pieces + 1, device=volumes.device).repeat(len(shifts), 1)
    knots[:, 1:-1] += shifts / (2 * pieces)
    steps = knots.diff(dim=1)
    flat = volumes.flatten(1)
    below = (flat * pieces).long().clamp_(0, pieces - 1)
    mapped = knots.gather(1, below) + (flat * pieces - below) * steps.gather(1, below)
    return mapped.view_as(volumes)


def add_noise(
    volumes: Float[Tensor, "B S C H W"], deviations: Float[Tensor, " B"], seeds: Sequence[int]
) -> Float[Tensor, "B S C H W"]:
    """Add Gaussian noise, each volume from its own seed; what a seed gives depends on the kind of device."""
    noisy = []
    for volume, deviation, seed in zip(volumes, deviations, seeds, strict=True):
        generator = Generator(volumes.device).manual_seed(seed)
        noise = torch.randn(volume.shape, generator=generator, device=volumes.device, dtype=volumes.dtype)
        noisy.append(noise.mul_(deviation).add_(volume))
    return torch.stack(noisy)


def cut_out(
    volumes: Float[Tensor, "B S C H W"], drawn: Float[Tensor, "B draws"], largest: float
) -> Float[Tensor, "B S C H W"]:
    """Set rectangles to 0, the same on all slices of a volume.

    Args:
        volumes: (B, S, C, H, W).
        drawn: Four numbers 0…1 a rectangle: height, width, and where the middle lies along rows and columns.
        largest: Share of a side a rectangle takes at most.
    """
    height, width = volumes.shape[-2:]
    rows = (torch.arange(height, device=volumes.device) + 0.5) / height
    columns = (torch.arange(width, device=volumes.device) + 0.5) / width
    kept = torch.ones(len(volumes), height, width, dtype=torch.bool, device=volumes.device)
    for box in drawn.view(len(drawn), -1, 4).unbind(1):
        tall, wide, down, right = box.T[..., None]  # (B, 1) each
        inside_rows = (rows - down).abs() <= largest * tall / 2
        inside_columns = (columns - right).abs() <= largest * wide / 2
        kept &= ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    return volumes * kept[:, None, None]
