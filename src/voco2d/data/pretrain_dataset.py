"""Batches for pretraining; each is a function of the seed and the step alone, so that a run can go on anywhere."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Int16, Shaped
from torch import Tensor

from voco2d.data.slice_source import Residency, ResidentSlices, SliceSource, choose_source
from voco2d.errors import ConfigError, StoreError
from voco2d.methods.method import Batch
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.spatial import axis_weights
from voco2d.store.volume_store import VolumeStore

_log = logging.getLogger(__name__)
_ORDER, _BATCH = 0, 1
"""Streams of chance: the order of the volumes, and what happens within a batch."""


@dataclass(frozen=True)
class Share:
    """The part of each batch that a process makes.

    Args:
        rank: The process, from 0.
        count: All processes.
    """

    rank: int = 0
    count: int = 1

    def rows(self, total: int) -> slice:
        """Return this process's rows of `total` volumes."""
        each = total // self.count
        return slice(self.rank * each, (self.rank + 1) * each)


@dataclass(frozen=True)
class Plan:
    """What chance decided for one batch of all processes.

    Args:
        volumes: (B,) positions in the store.
        slices: (B, G, S) slices of each volume, in G groups.
    """

    volumes: Int[np.ndarray, " B"]
    slices: Int[np.ndarray, "B G S"]


P = TypeVar("P", bound=Plan)
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class DataArgs:
    """How a dataset draws volumes, whatever the method.

    Args:
        window_hu: HU that become 0 and 1.
        batch_size: Volumes a batch, over all processes.
        seed: Seed of everything that is drawn.
        shuffle: Whether volumes come in a new order each time round.
        residency: Where slices are read from, see `choose_source`.
    """

    window_hu: tuple[float, float]
    batch_size: int
    seed: int
    shuffle: bool = True
    residency: Residency = "auto"


class PretrainDataset(ABC, Generic[P, B]):
    """Draws batches from a store; a method's own dataset says what is drawn and cut.

    Args:
        store: Prepared volumes.
        data: How volumes are drawn.
        exclude_patients: Patients that are never shown.

    Raises:
        StoreError: No volume is left.
        ConfigError: There are fewer volumes than a batch takes.
    """

    def __init__(self, store: VolumeStore, data: DataArgs, exclude_patients: Collection[str] = ()) -> None:
        self._store = store
        self._data = data
        self._share = Share()
        self._source: SliceSource | None = None
        self.waited_seconds = 0.0
        """Time that `batches` has waited for slices to be read."""
        self.prepared_seconds = 0.0
        """Time it has then spent windowing, resizing and cutting them; where a GPU does that, only starting it."""
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

    @property
    def is_resident(self) -> bool:
        """Whether a copy of the volumes lies on the device; false until the first batch is read."""
        return isinstance(self._source, ResidentSlices)

    def take(self, share: Share) -> None:
        """Make a part of each batch alone.

        Raises:
            ConfigError: The processes don't divide the batch.
        """
        size = self._data.batch_size
        if size % share.count:
            whole = max(size // share.count, 1) * share.count
            raise ConfigError(
                f"batch_size={size} is no multiple of the {share.count} processes; set for example batch_size={whole}"
            )
        self._share = share

    @abstractmethod
    def plan(self, step: int) -> P:
        """Decide by chance what all processes see in a step (0, 1, …)."""

    @abstractmethod
    def cut(self, plan: P, slices: Float[Tensor, "B G S e e"]) -> B:
        """Make this process's batch of its volumes' slices, intensities 0…1 (of the store's size), on their device."""

    def batch(self, step: int, device: torch.device) -> B:
        """Return the batch of a step; the same for the same seed."""
        plan = self.plan(step)
        return self._finish(plan, self._read(plan, device), device)

    def batches(self, start: int, stop: int, device: torch.device) -> Iterator[B]:
        """Yield the batches of the steps `start` … `stop` − 1; the next one is read while one is used."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self._prepare, start, device) if start < stop else None
            for step in range(start, stop):
                assert coming is not None
                since = time.monotonic()
                plan, hu = coming.result()
                self.waited_seconds += time.monotonic() - since
                coming = reader.submit(self._prepare, step + 1, device) if step + 1 < stop else None
                since = time.monotonic()
                batch = self._finish(plan, hu, device)
                self.prepared_seconds += time.monotonic() - since
                yield batch

    def resized(self, slices: Float[Tensor, "*n H W"], extent: int) -> Float[Tensor, "*n e e"]:
        """Resize slices by area to a square of `extent` pixels."""
        height, width = slices.shape[-2:]
        if (height, width) == (extent, extent):
            return slices
        rows, columns = (on_device(axis_weights(side, extent), slices.device, slices.dtype) for side in (height, width))
        return rows @ slices @ columns.T

    def generator(self, step: int) -> np.random.Generator:
        """Return the source of chance within the batch of a step."""
        return np.random.default_rng((self._data.seed, _BATCH, step))

    def own(self, total: int) -> slice:
        """Return this process's rows of the `total` volumes of a batch."""
        return self._share.rows(total)

    def volumes(self, step: int) -> Int[np.ndarray, " B"]:
        """Return the volumes of a step: rounds through all of them, each in a new order where they are shuffled."""
        size = self._data.batch_size
        first = step * size
        if not self._data.shuffle:
            return self.kept[(first + np.arange(size)) % len(self)]
        steps = len(self) // size
        order = np.random.default_rng((self._data.seed, _ORDER, step // steps)).permutation(self.kept)
        within = step % steps * size
        return order[within : within + size]

    def _prepare(self, step: int, device: torch.device) -> tuple[P, Int16[Tensor, "B G S H W"]]:
        plan = self.plan(step)
        return plan, self._read(plan, device)

    def _read(self, plan: P, device: torch.device) -> Int16[Tensor, "B G S H W"]:
        if self._source is None:
            kept = [int(volume) for volume in self.kept]
            self._source = choose_source(self._store, kept, self._data.residency, device)
        rows = self.own(len(plan.volumes))
        return self._source.read(plan.volumes[rows], plan.slices[rows])

    def _finish(self, plan: P, hu: Int16[Tensor, "B G S H W"], device: torch.device) -> B:
        slices = window_hu(hu.to(device, non_blocking=True), *self._data.window_hu)
        return self.cut(plan, slices)

    def _refuse_too_few(self) -> None:
        size = self._data.batch_size
        if not len(self):
            raise StoreError(
                f"{self._store.path}: no volume is left to pretrain on; `voco2d prepare` more or exclude fewer patients"
            )
        if size < 1:
            raise ConfigError(f"batch_size={size}: must be at least 1")
        if len(self) < size:
            raise ConfigError(
                f"batch_size={size}, but {self._store.path} has {len(self)} volumes to pretrain on; "
                "set a smaller batch_size or `voco2d prepare` more"
            )


def on_device(
    values: Shaped[np.ndarray, "*shape"], device: torch.device, dtype: torch.dtype | None = None
) -> Shaped[Tensor, "*shape"]:
    """Send what was decided on the host to the device, without waiting for what the device is doing.

    Args:
        values: Anything torch takes.
        device: Where to.
        dtype: What to make of them; as they are by default.
    """
    return torch.from_numpy(values).to(device, dtype, non_blocking=True)


def grouped(slices: Float[Tensor, "B G S H W"]) -> Float[Tensor, "B N H W"]:
    """Put the groups of slices of each volume one after another."""
    return rearrange(slices, "b g s h w -> b (g s) h w")
