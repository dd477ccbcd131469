"""What the classifier sees of a prepared volume: evenly spaced slices, an in-plane crop, one intensity window.

Training and prediction call the same function; its settings travel in the checkpoint.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from voco2d.errors import ConfigError
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.spatial import centre_crop, evenly_spaced
from voco2d.types import HuVolume, Shape3


@dataclass(frozen=True)
class ReadoutArgs:
    """Settings of `read_out`.

    Args:
        slices: S, evenly spaced slices taken from the prepared volume.
        crop: Side of the square in-plane crop, pixels; at random in training, in the centre otherwise.
        window: Low and high end of the intensity window, HU, mapped to 0 and 1.
    """

    slices: int = 48
    crop: int = 192
    window: tuple[float, float] = (-175.0, 250.0)


def read_out(
    hu: HuVolume, args: ReadoutArgs, generator: np.random.Generator | None = None
) -> Float32[np.ndarray, "S crop crop"]:
    """Select, crop and window a prepared volume.

    Args:
        hu: (Z, H, W) int16 HU as `preprocess` returns it, or `select_slices` of it.
        args: Settings.
        generator: Draws the crop's position; the centre crop where it is None.

    Returns:
        (S, crop, crop) float32, 0…1.

    Raises:
        ConfigError: The volume is smaller than `args` asks for.
    """
    check_readout(args, (hu.shape[0], hu.shape[1], hu.shape[2]))
    slices = select_slices(hu, args)
    if generator is None:
        cropped = centre_crop(slices, args.crop)
    else:
        top = int(generator.integers(0, hu.shape[1] - args.crop + 1))
        left = int(generator.integers(0, hu.shape[2] - args.crop + 1))
        cropped = slices[:, top : top + args.crop, left : left + args.crop]
    return np.asarray(window_hu(cropped, *args.window), dtype=np.float32)


def select_slices(hu: HuVolume, args: ReadoutArgs) -> Int16[np.ndarray, "S H W"]:
    """Take the slices `read_out` takes, (S, H, W); doing so twice changes nothing, so the result may be kept."""
    return np.asarray(hu[evenly_spaced(hu.shape[0], args.slices)])


def check_readout(args: ReadoutArgs, size: Shape3) -> None:
    """Refuse settings that ask for more than prepared volumes of `size` (Z, H, W) voxels hold.

    Raises:
        ConfigError: Too many slices, too large a crop, or an empty window.
    """
    depth, height, width = size
    if not 1 <= args.slices <= depth:
        raise ConfigError(f"readout.slices={args.slices}: the prepared volumes have {depth}; set 1 to {depth}")
    if not 1 <= args.crop <= min(height, width):
        raise ConfigError(
            f"readout.crop={args.crop}: the prepared slices are {height} x {width}; set 1 to {min(height, width)}"
        )
    if args.window[0] >= args.window[1]:
        raise ConfigError(f"readout.window={args.window}: the low end must lie below the high end")
