"""Where crops lie on a slice, how much of each base crop a random crop covers, and cutting them out."""

from typing import Any, TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

Coordinates = TypeVar("Coordinates", np.ndarray, Tensor)


def overlap_labels(centers: Coordinates, grid: int, crop: int) -> Coordinates:
    """Return the share of each random crop's area that lies in each base crop.

    Args:
        centers: (..., R, 2), centres of the random crops as (row, column), pixels; each crop lies inside the slice.
        grid: Base crops along a side, k.
        crop: Side of a crop, pixels, c.

    Returns:
        (..., R, K) with base crops in row-major order, 0…1, summing to 1 over K; an array for an array and a tensor
        for a tensor.
    """
    steps = base_centers(grid, crop)[:grid, 1]
    axis: Any = torch.as_tensor(steps, device=centers.device) if isinstance(centers, Tensor) else steps
    shared = 1 - abs(centers[..., None] - axis) / crop  # (..., R, 2, k): shared side along rows and columns
    shared = shared.clip(0)
    overlap = shared[..., 0, :, None] * shared[..., 1, None, :]  # (..., R, k, k)
    labels: Coordinates = overlap.reshape(*overlap.shape[:-2], grid * grid)
    return labels


def base_centers(grid: int, crop: int) -> Float[np.ndarray, "K 2"]:
    """Return the centres of the `grid` × `grid` base crops as (row, column), pixels, in row-major order.

    Args:
        grid: Base crops along each side.
        crop: Side of a crop, pixels.
    """
    steps = (np.arange(grid) + 0.5) * crop
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([rows.ravel(), columns.ravel()], axis=-1)


def random_centers(generator: np.random.Generator, count: int, grid: int, crop: int) -> Float[np.ndarray, "{count} 2"]:
    """Draw the centres of `count` crops that lie inside the slice and begin at whole pixels, as (row, column).

    Args:
        generator: Draws.
        count: Crops.
        grid: Base crops along each side of the slice.
        crop: Side of a crop, pixels.
    """
    corners = generator.integers(0, (grid - 1) * crop, size=(count, 2), endpoint=True)
    return corners + crop / 2


def first_pixels(centers: Float[np.ndarray, "*shape 2"], crop: int) -> Int[np.ndarray, "*shape 2"]:
    """Return the first row and column of crops with these centres.

    Args:
        centers: (row, column) of each crop, pixels.
        crop: Side of a crop, pixels.
    """
    return np.rint(centers - crop / 2).astype(np.int64)


def cut_crops(slices: Float[Tensor, "B S H W"], corners: Int[Tensor, "B N 2"], crop: int) -> Float[Tensor, "B N S c c"]:
    """Cut the same crops out of all slices of a volume, in one gather on the slices' device.

    Args:
        slices: The slices.
        corners: First row and column of each crop, pixels, inside the slice.
        crop: Side of a crop, pixels.

    Returns:
        (B, N, S, c, c) crops, of the slices' type.
    """
    offsets = torch.arange(crop, device=slices.device)
    volumes = rearrange(torch.arange(slices.shape[0], device=slices.device), "b -> b 1 1 1")
    rows = rearrange(corners[..., 0, None] + offsets, "b n r -> b n r 1")
    columns = rearrange(corners[..., 1, None] + offsets, "b n c -> b n 1 c")
    last = rearrange(slices, "b s h w -> b h w s")
    return rearrange(last[volumes, rows, columns], "b n r c s -> b n s r c")
