"""The datasets of pretraining by the name of the method they are for."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from voco2d.data.crop_dataset import CropDataset
from voco2d.data.pretrain_dataset import DataArgs, PretrainDataset
from voco2d.data.view_dataset import MaskDataset, ViewDataset
from voco2d.methods.view_args import ViewArgs
from voco2d.methods.voco_args import VoCoArgs
from voco2d.store.volume_store import VolumeStore

DATASETS: Mapping[str, Callable[[VolumeStore, Any, DataArgs, Collection[str]], PretrainDataset[Any, Any]]] = {
    "voco": CropDataset,
    "simclr": ViewDataset,
    "byol": ViewDataset,
    "dino": ViewDataset,
    "simmim": MaskDataset,
}


def build_dataset(
    store: VolumeStore, args: VoCoArgs | ViewArgs, data: DataArgs, exclude_patients: Collection[str] = ()
) -> PretrainDataset[Any, Any]:
    """Build the dataset of the method that `args` are for.

    Raises:
        StoreError: No volume is left.
        ConfigError: The batch is too large for the store, or too small for the method.
    """
    return DATASETS[args.name](store, args, data, exclude_patients)
