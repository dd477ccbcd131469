"""Batches of 2D-VoCo: random and base crops of volumes, and how they overlap."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from voco2d.data.crops import cut_crops, first_pixels, overlap_labels, random_centers
from voco2d.data.pretrain_dataset import DataArgs, Plan, PretrainDataset, grouped, on_device
from voco2d.data.views import mirrored, spread_slices, vary_intensity
from voco2d.errors import ConfigError
from voco2d.methods.method import CropBatch
from voco2d.methods.voco_args import VoCoArgs
from voco2d.preprocessing.spatial import evenly_spaced
from voco2d.store.volume_store import VolumeStore


@dataclass(frozen=True)
class CropPlan(Plan):
    """What chance decided for one batch of crops; the groups of slices are for all crops, or base and then random ones.

    Args:
        centers: (B, R, 2) of the random crops, pixels.
        mirror: (B, 2) whether rows and columns are mirrored.
        intensity: (B, R + K, 3) changes of intensity, −1…1.
        partner: (B,) the volume each is compared with.
    """

    centers: Float[np.ndarray, "B R 2"]
    mirror: Int[np.ndarray, "B 2"]
    intensity: Float[np.ndarray, "B N 3"]
    partner: Int[np.ndarray, " B"]


class CropDataset(PretrainDataset[CropPlan, CropBatch]):
    """Draws batches of crops from a store.

    Args:
        store: Prepared volumes.
        args: How crops are drawn.
        data: How volumes are drawn.
        exclude_patients: Patients that are never shown.

    Raises:
        StoreError: No volume is left.
        ConfigError: There are fewer volumes than a batch takes, or a batch has no partner for its volume.
    """

    def __init__(
        self,
        store: VolumeStore,
        args: VoCoArgs,
        data: DataArgs,
        exclude_patients: Collection[str] = (),
    ) -> None:
        if args.loss == "v2" and data.batch_size < 2:
            raise ConfigError(f"batch_size={data.batch_size}: each volume needs another to compare with; at least 2")
        super().__init__(store, data, exclude_patients)
        self._args = args

    def plan(self, step: int) -> CropPlan:
        """Decide by chance what all processes see in a step."""
        generator = self.generator(step)
        volumes = self.volumes(step)
        args, count = self._args, len(volumes)
        crops = args.random_crops + args.grid**2
        return CropPlan(
            volumes=volumes,
            slices=np.stack([self._slices(generator) for _ in volumes]),
            centers=random_centers(generator, count * args.random_crops, args.grid, args.crop).reshape(count, -1, 2),
            mirror=generator.integers(0, 2, size=(count, 2)) * args.flips,
            intensity=generator.uniform(-1.0, 1.0, size=(count, crops, 3)),
            partner=self._partners(generator, count),
        )

    def cut(self, plan: CropPlan, slices: Float[Tensor, "B G S H W"]) -> CropBatch:
        """Resize, mirror and cut the slices."""
        args, device = self._args, slices.device
        own = self.own(len(plan.volumes))
        groups = slices.shape[1]
        whole = self.resized(slices, args.extent)
        mirror = on_device(plan.mirror[own], device, torch.bool)
        whole = mirrored(grouped(whole), mirror[:, 0], mirror[:, 1])
        first, *others = rearrange(whole, "b (g s) h w -> g b s h w", g=groups)
        base = rearrange(first, "b s (k r) (m c) -> b (k m) s r c", k=args.grid, m=args.grid)
        corners = on_device(first_pixels(plan.centers[own], args.crop), device)
        if others:
            cuts = [cut_crops(own_slices, corners[:, r : r + 1], args.crop) for r, own_slices in enumerate(others)]
        else:
            cuts = [cut_crops(first, corners, args.crop)]
        crops = torch.cat([*cuts, base], dim=1)  # (B, R + K, S, c, c)
        if args.intensity > 0:
            changes = on_device(plan.intensity[own], device, torch.float32)
            crops = vary_intensity(crops, changes, args.intensity)
        overlap = on_device(overlap_labels(plan.centers, args.grid, args.crop), device, torch.float32)
        return CropBatch(
            units=rearrange(crops, "b n s r c -> (b n) s r c"),
            views=crops.shape[1],
            overlap=overlap,
            partner=on_device(plan.partner, device),
        )

    def _slices(self, generator: np.random.Generator) -> Int[np.ndarray, "G S"]:
        """Choose the slices of a volume: one group for all crops, or one for the base crops and one a random crop."""
        args, depth = self._args, self._store.preprocess_args.size[0]
        if args.depth == "shared":
            return evenly_spaced(depth, args.slices)[None]
        shares = (1.0, *(args.depth_share for _ in range(args.random_crops)))
        return np.stack([spread_slices(generator, depth, args.slices, share) for share in shares])

    def _partners(self, generator: np.random.Generator, count: int) -> Int[np.ndarray, " B"]:
        if count == 1:
            return np.zeros(1, dtype=np.int64)
        ahead = generator.integers(1, count, size=count) if self._args.partners == "random" else 1
        return (np.arange(count) + ahead) % count
