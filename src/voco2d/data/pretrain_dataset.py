"""Batches of crops for pretraining; each is a function of the seed and the step alone, so that a run can go on."""

import logging
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Int16
from torch import Tensor

from voco2d.data.crops import cut_crops, first_pixels, overlap_labels, random_centers
from voco2d.data.views import mirrored, spread_slices, vary_intensity
from voco2d.errors import ConfigError, StoreError
from voco2d.methods.method import CropBatch
from voco2d.methods.voco_args import VoCoArgs
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.spatial import axis_weights, evenly_spaced
from voco2d.store.volume_store import VolumeStore

_log = logging.getLogger(__name__)
_ORDER, _BATCH = 0, 1
"""Streams of chance: the order of the volumes, and what happens within a batch."""


@dataclass(frozen=True)
class Draw:
    """What chance decided for one batch, and the slices that were read for it.

    Args:
        volumes: (B,) positions in the store.
        hu: (B, G, S, H, W) slices as stored; G groups: all crops, or the base crops and then each random crop.
        centers: (B, R, 2) of the random crops, pixels.
        mirror: (B, 2) whether rows and columns are mirrored.
        intensity: (B, R + K, 3) changes of intensity, −1…1.
        partner: (B,) the volume each is compared with.
    """

    volumes: Int[np.ndarray, " B"]
    hu: Int16[np.ndarray, "B G S H W"]
    centers: Float[np.ndarray, "B R 2"]
    mirror: Int[np.ndarray, "B 2"]
    intensity: Float[np.ndarray, "B N 3"]
    partner: Int[np.ndarray, " B"]


class PretrainDataset:
    """Draws batches of crops from a store.

    Args:
        store: Prepared volumes.
        args: How crops are drawn.
        window_hu: HU that become 0 and 1.
        batch_size: Volumes a batch, at least 2.
        seed: Seed of everything that is drawn.
        exclude_patients: Patients that are never shown.

    Raises:
        StoreError: No volume is left.
        ConfigError: There are fewer volumes than a batch takes, or a batch has no partner for its volume.
    """

    def __init__(
        self,
        store: VolumeStore,
        args: VoCoArgs,
        window_hu: tuple[float, float],
        batch_size: int,
        seed: int,
        exclude_patients: Collection[str] = (),
    ) -> None:
        self._store = store
        self._args = args
        self._window = window_hu
        self._batch_size = batch_size
        self._seed = seed
        patients = store.index["patient_id"].astype(str)
        barred = patients.isin([str(patient) for patient in exclude_patients]).to_numpy()
        self.kept = np.flatnonzero(~barred)
        self.patients: tuple[str, ...] = tuple(sorted(set(patients[~barred])))
        if barred.any():
            _log.info("%d of %d volumes are left out: their patients are excluded", barred.sum(), len(patients))
        self._refuse_too_few()

    def __len__(self) -> int:
        """Return the number of volumes that are shown."""
        return len(self.kept)

    def batch(self, step: int, device: torch.device) -> CropBatch:
        """Return the batch of a step (0, 1, …); the same for the same seed."""
        return self.cut(self.draw(step), device)

    def batches(self, start: int, stop: int, device: torch.device) -> Iterator[CropBatch]:
        """Yield the batches of the steps `start` … `stop` − 1; the next one is read while one is used."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self.draw, start) if start < stop else None
            for step in range(start, stop):
                assert coming is not None
                drawn = coming.result()
                coming = reader.submit(self.draw, step + 1) if step + 1 < stop else None
                yield self.cut(drawn, device)

    def draw(self, step: int) -> Draw:
        """Decide by chance what a step sees, and read its slices."""
        generator = np.random.default_rng((self._seed, _BATCH, step))
        volumes = self._volumes(step)
        args, count = self._args, len(volumes)
        crops = args.random_crops + args.grid**2
        return Draw(
            volumes=volumes,
            hu=np.stack([self._read(int(volume), generator) for volume in volumes]),
            centers=random_centers(generator, count * args.random_crops, args.grid, args.crop).reshape(count, -1, 2),
            mirror=generator.integers(0, 2, size=(count, 2)) * args.flips,
            intensity=generator.uniform(-1.0, 1.0, size=(count, crops, 3)),
            partner=self._partners(generator, count),
        )

    def cut(self, drawn: Draw, device: torch.device) -> CropBatch:
        """Window, resize, mirror and cut what was drawn, on `device`."""
        args = self._args
        count = args.random_crops
        slices = self._slices(drawn, device)
        base = rearrange(slices[0], "b s (k r) (m c) -> b (k m) s r c", k=args.grid, m=args.grid)
        corners = torch.from_numpy(first_pixels(drawn.centers, args.crop)).to(device)
        if args.depth == "shared":
            random = cut_crops(slices[0], corners, args.crop)
        else:
            own = (cut_crops(slices[1 + r], corners[:, r : r + 1], args.crop) for r in range(count))
            random = torch.cat(list(own), dim=1)
        if args.intensity > 0:
            changes = torch.from_numpy(drawn.intensity).to(device, torch.float32)
            random = vary_intensity(random, changes[:, :count], args.intensity)
            base = vary_intensity(base, changes[:, count:], args.intensity)
        overlap = torch.from_numpy(overlap_labels(drawn.centers, args.grid, args.crop)).to(device, torch.float32)
        return CropBatch(random, base, overlap, torch.from_numpy(drawn.partner).to(device))

    def _slices(self, drawn: Draw, device: torch.device) -> Float[Tensor, "G B S e e"]:
        """Window, resize and mirror the slices of a batch, group by group."""
        extent = self._args.extent
        slices = window_hu(torch.from_numpy(drawn.hu).to(device), *self._window)
        height, width = slices.shape[-2:]
        if (height, width) != (extent, extent):
            rows, columns = (torch.from_numpy(axis_weights(side, extent)).to(device) for side in (height, width))
            slices = rows @ slices @ columns.T
        mirror = torch.from_numpy(drawn.mirror).to(device, torch.bool)
        groups = slices.shape[1]
        slices = mirrored(rearrange(slices, "b g s h w -> b (g s) h w"), mirror[:, 0], mirror[:, 1])
        return rearrange(slices, "b (g s) h w -> g b s h w", g=groups)

    def _read(self, volume: int, generator: np.random.Generator) -> Int16[np.ndarray, "G S H W"]:
        """Read the slices of a volume: one group for all crops, or one for the base crops and one a random crop."""
        args = self._args
        hu = self._store[volume]
        if args.depth == "shared":
            return np.asarray(hu[evenly_spaced(len(hu), args.slices)])[None]
        shares = (1.0, *(args.depth_share for _ in range(args.random_crops)))
        chosen = [spread_slices(generator, len(hu), args.slices, share) for share in shares]
        return np.stack([np.asarray(hu[slices]) for slices in chosen])

    def _volumes(self, step: int) -> Int[np.ndarray, " B"]:
        """Return the volumes of a step: rounds through all of them, each in a new order where they are shuffled."""
        first = step * self._batch_size
        if not self._args.shuffle:
            return self.kept[(first + np.arange(self._batch_size)) % len(self)]
        steps = len(self) // self._batch_size
        order = np.random.default_rng((self._seed, _ORDER, step // steps)).permutation(self.kept)
        within = step % steps * self._batch_size
        return order[within : within + self._batch_size]

    def _partners(self, generator: np.random.Generator, count: int) -> Int[np.ndarray, " B"]:
        ahead = generator.integers(1, count, size=count) if self._args.partners == "random" else 1
        return (np.arange(count) + ahead) % count

    def _refuse_too_few(self) -> None:
        if not len(self):
            raise StoreError(
                f"{self._store.path}: no volume is left to pretrain on; `voco2d prepare` more or exclude fewer patients"
            )
        if self._batch_size < 2:
            raise ConfigError(f"batch_size={self._batch_size}: each volume needs another to compare with; at least 2")
        if len(self) < self._batch_size:
            raise ConfigError(
                f"batch_size={self._batch_size}, but {self._store.path} has {len(self)} volumes to pretrain on; "
                "set a smaller batch_size or `voco2d prepare` more"
            )
