"""Where the slices of a batch come from: the store's memory maps, or a copy of the whole store on the device."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, Int16
from torch import Tensor

from voco2d.memory import enough_memory, is_out_of_memory
from voco2d.store.volume_store import VolumeStore

Residency = Literal["auto", "disk", "device"]

_log = logging.getLogger(__name__)
_SHARE = 0.5
"""Largest share of a GPU's free memory that volumes take by themselves."""


class SliceSource(ABC):
    """Gives stored slices as they are."""

    @abstractmethod
    def read(self, volumes: Int[np.ndarray, " B"], slices: Int[np.ndarray, "B G S"]) -> Int16[Tensor, "B G S H W"]:
        """Return slices of volumes.

        Args:
            volumes: Positions in the store.
            slices: G groups of slices of each volume.

        Raises:
            StoreError: A volume became missing or damaged.
        """


class MappedSlices(SliceSource):
    """Reads slices from the store's memory maps into memory that a GPU can copy from while it works.

    Args:
        store: Prepared volumes.
        device: Where the batch goes.
    """

    def __init__(self, store: VolumeStore, device: torch.device) -> None:
        self._store = store
        self._pins = device.type == "cuda"

    def read(self, volumes: Int[np.ndarray, " B"], slices: Int[np.ndarray, "B G S"]) -> Int16[Tensor, "B G S H W"]:
        """Return slices of volumes, on the CPU."""
        size = self._store.preprocess_args.size
        hu = torch.empty((*slices.shape, *size[1:]), dtype=torch.int16, pin_memory=self._pins)
        view = hu.numpy()
        for row, volume in enumerate(volumes):
            np.take(self._store[int(volume)], slices[row], axis=0, out=view[row], mode="clip")
        return hu


class ResidentSlices(SliceSource):
    """Keeps a copy of the volumes on the device and gathers slices there.

    Args:
        store: Prepared volumes.
        kept: Positions of the volumes that are ever asked for.
        device: Where the copy lives.

    Raises:
        StoreError: A volume is missing or damaged.
    """

    def __init__(self, store: VolumeStore, kept: Sequence[int], device: torch.device) -> None:
        size = store.preprocess_args.size
        self._hu = torch.empty((len(kept), *size), dtype=torch.int16, device=device)
        self._row = {volume: row for row, volume in enumerate(kept)}
        for volume, row in self._row.items():
            self._hu[row].copy_(torch.from_numpy(np.array(store[volume])))

    def read(self, volumes: Int[np.ndarray, " B"], slices: Int[np.ndarray, "B G S"]) -> Int16[Tensor, "B G S H W"]:
        """Return slices of volumes, on the device."""
        rows = torch.tensor([self._row[int(volume)] for volume in volumes]).to(self._hu.device, non_blocking=True)
        chosen = torch.from_numpy(slices).to(self._hu.device, non_blocking=True)
        return self._hu[rows[:, None, None], chosen]


def choose_source(store: VolumeStore, kept: Sequence[int], residency: Residency, device: torch.device) -> SliceSource:
    """Choose where slices come from.

    Args:
        store: Prepared volumes.
        kept: Positions of the volumes that are ever asked for.
        residency: `disk` maps the files; `device` copies all volumes to the device first; `auto` does so on a GPU
            half of whose free memory holds them.
        device: Where batches are made.

    Raises:
        DeviceMemoryError: `device` was asked for and the volumes don't fit.
        StoreError: A volume is missing or damaged.
    """
    needed = len(kept) * int(np.prod(store.preprocess_args.size)) * 2
    if residency == "disk" or (residency == "auto" and device.type != "cuda"):
        return MappedSlices(store, device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if residency == "auto" and free is not None and needed > _SHARE * free:
        _log.info("the volumes (%.1f GB) stay on disk: they take over half of the GPU's free memory", needed / 1e9)
        return MappedSlices(store, device)
    if residency == "device":
        during = f"while the volumes ({needed / 1e9:.1f} GB) were copied to the device"
        with enough_memory(during, "set residency=disk, and go on with --resume"):
            return ResidentSlices(store, kept, device)
    try:
        return ResidentSlices(store, kept, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _log.warning(
            "the volumes (%.1f GB) stay on disk: the GPU's memory ran out while they were copied", needed / 1e9
        )
    return MappedSlices(store, device)
