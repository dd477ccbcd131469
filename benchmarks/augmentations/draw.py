"""Draw what the augmentation of fine-tuning makes of volumes of a store: `draw.py STORE --out page.png [key=value …]`.

A row a volume: its middle slice as it is, then as it was drawn six times. Keys are those of `finetune`, such as
`augment.turn=true`; `--config paper` takes the paper's.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Generator

from voco2d.config import resolve
from voco2d.data.augment import augment, draw_changes
from voco2d.preprocessing.readout import read_channels
from voco2d.store.volume_store import VolumeStore
from voco2d.training.finetune_args import PRESETS, FinetuneArgs

VOLUMES, DRAWS = 4, 6


def main() -> None:
    """Read, change and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    args = resolve(FinetuneArgs, options.config, options.overrides, PRESETS)
    store = VolumeStore(options.store)
    count = min(VOLUMES, len(store))
    figure, axes = plt.subplots(count, 1 + DRAWS, figsize=(2 * (1 + DRAWS), 2 * count), squeeze=False)
    middle = args.readout.slices // 2
    for position in range(count):
        plain = torch.from_numpy(read_channels(store[position], args.readout))[None]
        axes[position, 0].imshow(plain[0, middle, 0], cmap="gray", vmin=0, vmax=1)
        for draw in range(DRAWS):
            volume = torch.from_numpy(read_channels(store[position], args.readout, np.random.default_rng(draw)))[None]
            changes = draw_changes(args.augment, [Generator().manual_seed(draw)])
            changed = augment(volume, args.augment, changes)
            axes[position, 1 + draw].imshow(changed[0, middle, 0], cmap="gray", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].set_title("as it is")
    figure.tight_layout()
    figure.savefig(options.out, dpi=100)


if __name__ == "__main__":
    main()
