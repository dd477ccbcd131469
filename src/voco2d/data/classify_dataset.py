"""Batches of labelled volumes for the classifier, read from the store ahead of their use."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from voco2d.data.augment import AugmentArgs, augment
from voco2d.data.cohort import Cohort, class_indices
from voco2d.preprocessing.readout import ReadoutArgs, read_out, select_slices
from voco2d.store.volume_store import VolumeStore
from voco2d.types import HuVolume

_READERS = 2
"""Threads that read, crop and augment; more only fight the network for the cores."""
_AHEAD = 8
"""Volumes being prepared while the network works; each is at most a few tens of MB."""
_MEGABYTE = 2**20


@dataclass(frozen=True)
class Batch:
    """Volumes with their labels.

    Args:
        volumes: (B, S, 1, crop, crop) windowed, 0…1.
        labels: Target name → (B) class indices; 0 is healthy, −1 a patient without labels.
        rows: (B) rows of `Cohort.series`.
    """

    volumes: Float[Tensor, "B S 1 crop crop"]
    labels: Mapping[str, Int64[Tensor, " B"]]
    rows: Int64[Tensor, " B"]


class ClassifyDataset:
    """The labelled series of a store as the classifier sees them.

    Args:
        store: Prepared volumes.
        cohort: Which of them are labelled, and how.
        readout: Slices, crop and window.
        augmentation: Changes of training volumes.
        preload_mb: Volumes stay in memory after their first use if all of them fit into this many MB.
    """

    def __init__(
        self,
        store: VolumeStore,
        cohort: Cohort,
        readout: ReadoutArgs,
        augmentation: AugmentArgs,
        preload_mb: int = 2048,
    ) -> None:
        self.cohort = cohort
        self._store = store
        self._positions = cohort.series["position"].to_numpy()
        self._readout = readout
        self._augmentation = augmentation
        patients = cohort.labels.set_index("patient_id").index
        # −1 where a patient has no labels, which no loss takes
        known = torch.from_numpy(patients.get_indexer(pd.Index(cohort.series["patient_id"])))
        self._labels = {
            name: torch.where(known < 0, -1, torch.from_numpy(indices)[known])
            for name, indices in class_indices(cohort.labels).items()
        }
        _, height, width = store.preprocess_args.size
        needed = len(self) * readout.slices * height * width * np.dtype(np.int16).itemsize
        self._kept: dict[int, HuVolume] | None = {} if needed <= preload_mb * _MEGABYTE else None

    def __len__(self) -> int:
        return len(self._positions)

    def volume(self, row: int, seed: Sequence[int] | None = None) -> Float[Tensor, "S 1 crop crop"]:
        """Return one series.

        Args:
            row: Row of `Cohort.series`.
            seed: Draws the crop and the augmentation; the centre crop, unchanged, where it is None.
        """
        slices = self._slices(row)
        if seed is None:
            return torch.from_numpy(read_out(slices, self._readout)).unsqueeze(1)
        draws = np.random.default_rng(seed)
        volume = torch.from_numpy(read_out(slices, self._readout, draws)).unsqueeze(1)
        return augment(volume, self._augmentation, Generator().manual_seed(int(draws.integers(2**63 - 1))))

    def batches(
        self, rows: Int64[np.ndarray, " n"], batch_size: int, seed: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """Yield every row once, in order without a seed and shuffled with one; the last batch may be smaller.

        What a batch holds depends on the arguments alone, not on the threads that prepare it.

        Args:
            rows: Rows of `Cohort.series`.
            batch_size: B, at least 1.
            seed: As for `volume`; each row draws from its own stream.
        """
        order = rows if seed is None else np.random.default_rng(seed).permutation(rows)
        with ThreadPoolExecutor(_READERS) as pool:
            volumes = self._in_order(pool, order.tolist(), seed)
            for start in range(0, len(order), batch_size):
                chosen = torch.from_numpy(order[start : start + batch_size])
                yield Batch(
                    volumes=torch.stack([next(volumes) for _ in range(len(chosen))]),
                    labels={name: labels[chosen] for name, labels in self._labels.items()},
                    rows=chosen,
                )

    def labels(self, rows: Int64[np.ndarray, " n"]) -> dict[str, Int64[Tensor, " n"]]:
        """Return the labels of `rows`, target name → class indices."""
        return {name: labels[torch.from_numpy(rows)] for name, labels in self._labels.items()}

    def _slices(self, row: int) -> HuVolume:
        if self._kept is None:
            return select_slices(self._store[int(self._positions[row])], self._readout)
        if row not in self._kept:
            self._kept[row] = select_slices(self._store[int(self._positions[row])], self._readout)
        return self._kept[row]

    def _in_order(self, pool: ThreadPoolExecutor, rows: Sequence[int], seed: Sequence[int] | None) -> Iterator[Tensor]:
        """Prepare a few volumes ahead in other threads and yield them in the order of `rows`."""
        waiting: deque[Future[Tensor]] = deque()
        try:
            for row in rows:
                waiting.append(pool.submit(self.volume, row, None if seed is None else (*seed, row)))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
