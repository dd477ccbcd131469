"""Crops of phantom patients for measurements: the same patients for every method, each cut in its own way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32

from voco2d.data.crops import base_centers, cut_crops, first_pixels, overlap_labels, random_centers
from voco2d.data.phantom.series import make_series
from voco2d.io.volume import Volume
from voco2d.preprocessing.intensity import WINDOWS, window_hu
from voco2d.preprocessing.preprocess import PreprocessArgs, preprocess
from voco2d.preprocessing.spatial import evenly_spaced

RANDOM_CROPS = 2
_SEED = 0


@dataclass(frozen=True)
class CropPlan:
    """How a volume is cut.

    Args:
        grid: Base crops along a side of the slice.
        crop: Side of a crop, pixels.
        slices: Slices of a crop, evenly spaced.
        depth: Slices of the volume.
    """

    grid: int
    crop: int
    slices: int
    depth: int

    @property
    def views(self) -> int:
        """Crops a volume, the random ones first."""
        return RANDOM_CROPS + self.grid**2


def write_crops(plan: CropPlan, volumes: int, path: Path) -> None:
    """Paint patients, prepare and cut them, and write an .npz.

    Args:
        plan: How they are cut.
        volumes: Number of patients, B.
        path: Takes `units` (B × views, S, c, c), intensities 0…1, and `overlap` (B, R, K) as in `CropBatch`.
    """
    rng = np.random.default_rng(_SEED)
    side = plan.grid * plan.crop
    base = base_centers(plan.grid, plan.crop)
    units, overlaps = [], []
    for patient in range(volumes):
        slices = _prepared(patient, (plan.depth, side, side))[evenly_spaced(plan.depth, plan.slices)]
        random = random_centers(rng, RANDOM_CROPS, plan.grid, plan.crop)
        corners = torch.from_numpy(first_pixels(np.concatenate([random, base]), plan.crop))
        units.append(cut_crops(torch.from_numpy(slices)[None], corners[None], plan.crop).numpy())
        overlaps.append(overlap_labels(random, plan.grid, plan.crop).astype(np.float32))
    np.savez(path, units=rearrange(np.concatenate(units), "b n s h w -> (b n) s h w"), overlap=np.stack(overlaps))


def _prepared(patient: int, size: tuple[int, int, int]) -> Float32[np.ndarray, "Z H W"]:
    """Return a phantom patient's first series as `prepare` and a dataset would give it, 0…1."""
    series = make_series(_SEED, patient)[0]
    origin_mm = (0.0, 0.0, 0.0)
    volume = Volume(series.hu, series.spacing_mm, np.eye(3), origin_mm, str(patient), "", "", f"phantom {patient}")
    windowed: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = window_hu(
        preprocess(volume, PreprocessArgs(size=size)), *WINDOWS["paper"]
    )
    return windowed
