"""Batches of labelled volumes for the classifier, read from the store ahead of their use."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int16, Int64
from torch import Generator, Tensor

from voco2d.data.augment import AugmentArgs, Changes, augment, draw_changes, flip_slices
from voco2d.data.cohort import Cohort, class_indices
from voco2d.data.slice_labels import SliceLabels
from voco2d.preprocessing.readout import ReadoutArgs, crop_corner, stack_indices, window_channels
from voco2d.preprocessing.spatial import evenly_spaced
from voco2d.store.volume_store import VolumeStore
from voco2d.types import HuVolume

_READERS = 2
"""Threads that read and crop; more only fight the network for the cores."""
_AHEAD = 16
"""Volumes being prepared while the network works; each is at most a few tens of MB."""
_MEGABYTE = 2**20
_SEEDS = 2**63 - 1


@dataclass(frozen=True)
class Batch:
    """Volumes with their labels, as they are read; `ClassifyDataset.inputs` makes of them what the network sees.

    Args:
        hu: (B, S, N, crop, crop) HU; N slices, a slice and its neighbours.
        labels: Target name → (B) class indices; 0 is healthy, −1 a label that is missing.
        slices: (B, S, targets) what is known of the slices, NaN where it isn't; no targets without slice labels.
        rows: (B) rows of `Cohort.series`.
        changes: What was drawn for the augmentation; None leaves the volumes as they are.
    """

    hu: Int16[Tensor, "B S N crop crop"]
    labels: Mapping[str, Int64[Tensor, " B"]]
    slices: Float[Tensor, "B S targets"]
    rows: Int64[Tensor, " B"]
    changes: Changes | None = None

    def parts(self, count: int) -> list["Batch"]:
        """Cut it into up to `count` parts of like size, none of them empty."""
        edges = np.linspace(0, len(self.rows), min(count, len(self.rows)) + 1).round().astype(int)
        return [self._part(slice(int(low), int(high))) for low, high in pairwise(edges)]

    def _part(self, part: slice) -> "Batch":
        labels = {name: values[part] for name, values in self.labels.items()}
        changes = None if self.changes is None else self.changes[part]
        return Batch(self.hu[part], labels, self.slices[part], self.rows[part], changes)


class ClassifyDataset:
    """The labelled series of a store as the classifier sees them.

    Args:
        store: Prepared volumes.
        cohort: Which of them are labelled, and how.
        readout: Slices, crop and windows.
        augmentation: Changes of training volumes.
        preload_mb: Volumes stay in memory after their first use, as the int16 they are stored in, if all of them fit
            into this many MB.
        slice_labels: What is known of single slices.
    """

    def __init__(
        self,
        store: VolumeStore,
        cohort: Cohort,
        readout: ReadoutArgs,
        augmentation: AugmentArgs,
        preload_mb: int = 2048,
        slice_labels: SliceLabels | None = None,
    ) -> None:
        self.cohort = cohort
        self._store = store
        self._positions = cohort.series["position"].to_numpy()
        self._readout = readout
        self._augmentation = augmentation
        self._labels = _labels_of(cohort)
        depth, height, width = store.preprocess_args.size
        stacks = stack_indices(depth, readout)
        self._needed, inverse = np.unique(stacks, return_inverse=True)
        self._stacks = inverse.reshape(stacks.shape)
        self._slices = _slice_targets(slice_labels, evenly_spaced(depth, readout.slices), len(self))
        needed = len(self) * len(self._needed) * height * width * np.dtype(np.int16).itemsize
        self._kept: dict[int, HuVolume] | None = {} if needed <= preload_mb * _MEGABYTE else None

    def __len__(self) -> int:
        return len(self._positions)

    def batches(
        self, rows: Int64[np.ndarray, " n"], batch_size: int, seed: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """Yield rows in their order; the last batch may be smaller.

        What a batch holds depends on the arguments alone, not on the threads that prepare it.

        Args:
            rows: Rows of `Cohort.series`.
            batch_size: B, at least 1.
            seed: Draws crops and augmentation, each volume from its own stream; centre crops, unchanged, where it is
                None.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            volumes = self._in_order(pool, rows.tolist(), seed)
            for start in range(0, len(rows), batch_size):
                chosen = torch.from_numpy(rows[start : start + batch_size])
                read = [next(volumes) for _ in range(len(chosen))]
                generators = [generator for _, generator in read if generator is not None]
                yield Batch(
                    hu=torch.stack([hu for hu, _ in read]),
                    labels={name: labels[chosen] for name, labels in self._labels.items()},
                    slices=self._slices[chosen],
                    rows=chosen,
                    changes=draw_changes(self._augmentation, generators) if generators else None,
                )

    def inputs(
        self, batch: Batch, device: torch.device
    ) -> tuple[Float[Tensor, "B S C crop crop"], Float[Tensor, "B S targets"]]:
        """Window and augment a batch on a device; return what the network sees and the targets of its slices."""
        volumes = window_channels(batch.hu.to(device, non_blocking=True), self._readout)
        slices = batch.slices
        if batch.changes is not None:
            volumes = augment(volumes, self._augmentation, batch.changes)
            slices = flip_slices(slices, self._augmentation, batch.changes)
        return volumes, slices.to(device)

    def labels(self, rows: Int64[np.ndarray, " n"]) -> dict[str, Int64[Tensor, " n"]]:
        """Return the labels of `rows`, target name → class indices."""
        return {name: labels[torch.from_numpy(rows)] for name, labels in self._labels.items()}

    def _read(self, row: int, seed: Sequence[int] | None) -> tuple[Int16[Tensor, "S N crop crop"], Generator | None]:
        """Return the crop of one series, and the generator of its augmentation."""
        kept = self._volume(row)
        draws = None if seed is None else np.random.default_rng(seed)
        top, left = crop_corner((kept.shape[1], kept.shape[2]), self._readout.crop, draws)
        side = self._readout.crop
        hu = torch.from_numpy(np.ascontiguousarray(kept[self._stacks, top : top + side, left : left + side]))
        return hu, None if draws is None else Generator().manual_seed(int(draws.integers(_SEEDS)))

    def _volume(self, row: int) -> HuVolume:
        """Return the slices that are needed of one series."""
        if self._kept is not None and row in self._kept:
            return self._kept[row]
        volume = np.asarray(self._store[int(self._positions[row])][self._needed])
        if self._kept is not None:
            self._kept[row] = volume
        return volume

    def _in_order(
        self, pool: ThreadPoolExecutor, rows: Sequence[int], seed: Sequence[int] | None
    ) -> Iterator[tuple[Int16[Tensor, "S N crop crop"], Generator | None]]:
        """Read a few volumes ahead in other threads and yield them in the order of `rows`."""
        waiting: deque[Future[tuple[Tensor, Generator | None]]] = deque()
        try:
            for place, row in enumerate(rows):
                # a series may be drawn twice in an epoch, so its place counts and not its row
                waiting.append(pool.submit(self._read, row, None if seed is None else (*seed, place)))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _labels_of(cohort: Cohort) -> dict[str, Int64[Tensor, " rows"]]:
    """Target name → class indices of the rows of `Cohort.series`; −1, which no loss takes, without labels."""
    patients = pd.Index(cohort.labels["patient_id"])
    known = torch.from_numpy(patients.get_indexer(pd.Index(cohort.series["patient_id"])))
    return {
        name: torch.where(known < 0, -1, torch.from_numpy(indices)[known])
        for name, indices in class_indices(cohort.labels, cohort.targets).items()
    }


def _slice_targets(
    labels: SliceLabels | None, seen: Int64[np.ndarray, " S"], rows: int
) -> Float[Tensor, "rows S targets"]:
    """Return what is known of the slices that are seen."""
    if labels is None:
        return torch.empty(rows, len(seen), 0)
    return torch.from_numpy(np.stack([known[seen] for known in labels.series]))
