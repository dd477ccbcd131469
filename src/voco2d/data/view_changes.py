"""Random views of slices: rectangles, mirroring, intensity and blur, drawn with numpy and made on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from voco2d.data.views import mirrored, vary_intensity
from voco2d.methods.view_args import ViewArgs

_ASPECT = 4 / 3
"""Largest ratio of a rectangle's sides."""


@dataclass(frozen=True)
class ViewChanges:
    """What makes views differ; N views a volume, those of a slice one after another.

    Args:
        boxes: (B, N, 4) first row, first column, height and width, shares of the slice's sides.
        mirror: (B, N, 2) whether rows and columns are mirrored.
        intensity: (B, N, 3) changes of intensity, −1…1.
        blur: (B, N) standard deviations, pixels of the view; 0 leaves it sharp.
    """

    boxes: Float[np.ndarray, "B N 4"]
    mirror: Bool[np.ndarray, "B N 2"]
    intensity: Float[np.ndarray, "B N 3"]
    blur: Float[np.ndarray, "B N"]

    def rows(self, rows: slice) -> "ViewChanges":
        """Return those of some volumes."""
        return ViewChanges(self.boxes[rows], self.mirror[rows], self.intensity[rows], self.blur[rows])


def draw_changes(generator: np.random.Generator, args: ViewArgs, volumes: int) -> ViewChanges:
    """Draw the changes of `args.images_per_volume` views of each volume."""
    size = (volumes, args.images_per_volume)
    area = generator.uniform(*args.area, size=size)
    aspect = np.exp(generator.uniform(-np.log(_ASPECT), np.log(_ASPECT), size=size))
    sides = np.minimum(np.sqrt(np.stack([area * aspect, area / aspect], axis=-1)), 1.0)
    first = generator.random((*size, 2)) * (1 - sides)
    mirror = generator.random((*size, 2)) < 0.5
    intensity = generator.uniform(-1.0, 1.0, size=(*size, 3))
    blur = generator.uniform(0.0, args.blur, size=size) * (generator.random(size) < 0.5)
    return ViewChanges(np.concatenate([first, sides], axis=-1), mirror & args.flips, intensity, blur)


def make_views(slices: Float[Tensor, "B S H W"], changes: ViewChanges, args: ViewArgs) -> Float[Tensor, "B N c c"]:
    """Cut rectangles out of slices by area and change them.

    Args:
        slices: Intensities 0…1.
        changes: N = S × views of a slice.
        args: Side of a view, and how strong changes are.

    Returns:
        Intensities 0…1.
    """
    volumes, count, height, width = slices.shape
    boxes = _tensor(changes.boxes, slices)
    rows = box_weights(boxes[..., 0], boxes[..., 2], height, args.crop)  # (B, N, c, H)
    columns = box_weights(boxes[..., 1], boxes[..., 3], width, args.crop)
    stacked = rearrange(rows, "b (s v) c h -> b s (v c) h", s=count)  # all views of a slice in one product
    views = rearrange(stacked @ slices, "b s (v c) w -> b (s v) c w", c=args.crop) @ columns.mT
    mirror = torch.from_numpy(changes.mirror).to(slices.device, non_blocking=True)
    flat = rearrange(views, "b n r c -> (b n) 1 r c")
    views = rearrange(
        mirrored(flat, mirror[..., 0].flatten(), mirror[..., 1].flatten()), "(b n) 1 r c -> b n r c", b=volumes
    )
    if args.blur > 0:
        kernel = blur_weights(_tensor(changes.blur, slices), args.crop)
        views = kernel @ views @ kernel.mT
    if args.intensity > 0:
        varied = vary_intensity(views.unsqueeze(2), _tensor(changes.intensity, slices), args.intensity)
        views = varied.squeeze(2)
    return views.clamp(0, 1)  # rounding may leave the range


def box_weights(
    first: Float[Tensor, "*n"], length: Float[Tensor, "*n"], side: int, crop: int
) -> Float[Tensor, "*n crop side"]:
    """Return the weight of each of `side` pixels in each of `crop` equal parts of a stretch of them, by length.

    Args:
        first: Where the stretch begins, share of the side.
        length: How long it is, share of the side; above 0.
        side: Pixels.
        crop: Parts; their weights sum to 1.
    """
    part = (length * side / crop)[..., None, None]
    begin = (first * side)[..., None, None] + part * torch.arange(crop, device=first.device)[:, None]
    pixel = torch.arange(side, device=first.device)
    shared = (torch.minimum(pixel + 1, begin + part) - torch.maximum(pixel, begin)).clamp(min=0)
    return shared / shared.sum(-1, keepdim=True)


def blur_weights(deviation: Float[Tensor, "*n"], crop: int) -> Float[Tensor, "*n crop crop"]:
    """Return the weight of each pixel of a line in each blurred pixel; each one's weights sum to 1.

    Args:
        deviation: Of the Gaussian, pixels; 0 blurs nothing.
        crop: Pixels.
    """
    place = torch.arange(crop, device=deviation.device, dtype=deviation.dtype)
    distance = (place[:, None] - place).square()
    weights = torch.exp(-distance / (2 * deviation.square().clamp(min=1e-6))[..., None, None])
    return weights / weights.sum(-1, keepdim=True)


def _tensor(values: Float[np.ndarray, "..."], like: Tensor) -> Float[Tensor, "..."]:
    return torch.from_numpy(values).to(like.device, like.dtype, non_blocking=True)
