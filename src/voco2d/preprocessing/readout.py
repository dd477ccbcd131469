"""What the classifier sees of a prepared volume: slices with their neighbours, an in-plane crop, intensity windows.

Training and prediction call the same functions; their settings travel in the checkpoint.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from einops import rearrange
from jaxtyping import Float32, Int64

from voco2d.errors import ConfigError
from voco2d.preprocessing.intensity import Clippable, window_hu
from voco2d.preprocessing.spatial import evenly_spaced
from voco2d.types import HuVolume, Shape3

Array = TypeVar("Array", bound=Clippable)


@dataclass(frozen=True)
class ReadoutArgs:
    """Settings of `read_channels`.

    Args:
        slices: S, evenly spaced slices taken from the prepared volume.
        crop: Side of the square in-plane crop, pixels; at random in training, in the centre otherwise.
        window: Low and high end of the intensity window, HU, mapped to 0 and 1.
        neighbours: Prepared slices on either side that a slice is seen with, as channels ("2.5D"); at the ends of the
            volume the last slice stands for those beyond it.
        more_windows: Further intensity windows, as channels after those of `window`.
    """

    slices: int = 48
    crop: int = 192
    window: tuple[float, float] = (-175.0, 250.0)
    neighbours: int = 0
    more_windows: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no volume can have."""
        if self.neighbours < 0:
            raise ConfigError(f"readout.neighbours={self.neighbours}: must be at least 0")

    @property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """All windows, in the order of the channels."""
        return (self.window, *self.more_windows)

    @property
    def stack(self) -> int:
        """N, a slice and its neighbours."""
        return 2 * self.neighbours + 1

    @property
    def channels(self) -> int:
        """C, channels of a slice: each window of each slice of its stack, the window changing last."""
        return len(self.windows) * self.stack


def read_channels(
    hu: HuVolume, args: ReadoutArgs, generator: np.random.Generator | None = None
) -> Float32[np.ndarray, "S C crop crop"]:
    """Select, crop and window a prepared volume.

    Args:
        hu: (Z, H, W) int16 HU as `preprocess` returns it.
        args: Settings.
        generator: Draws the crop's position; the centre crop where it is None.

    Returns:
        (S, C, crop, crop) float32, 0…1, from superior to inferior.

    Raises:
        ConfigError: The volume is smaller than `args` asks for.
    """
    depth, height, width = hu.shape
    check_readout(args, (depth, height, width))
    top, left = crop_corner((height, width), args.crop, generator)
    cropped = np.asarray(hu[stack_indices(depth, args), top : top + args.crop, left : left + args.crop])
    return np.ascontiguousarray(window_channels(cropped, args), dtype=np.float32)


def read_out(
    hu: HuVolume, args: ReadoutArgs, generator: np.random.Generator | None = None
) -> Float32[np.ndarray, "S crop crop"]:
    """Return the first channel of `read_channels`, whose arguments these are: of `window`, the first neighbour."""
    return read_channels(hu, args, generator)[:, 0]


def stack_indices(depth: int, args: ReadoutArgs) -> Int64[np.ndarray, "S N"]:
    """Return the prepared slices that each slice is seen with, (S, N), from superior to inferior.

    Args:
        depth: Z, slices of the prepared volume.
        args: Settings.
    """
    around = np.arange(-args.neighbours, args.neighbours + 1)
    return np.clip(evenly_spaced(depth, args.slices)[:, None] + around, 0, depth - 1)


def crop_corner(size: tuple[int, int], crop: int, generator: np.random.Generator | None = None) -> tuple[int, int]:
    """Return the first row and column of a crop of slices of `size` (H, W): drawn, or that of the centre crop."""
    height, width = size
    if generator is None:
        return (height - crop) // 2, (width - crop) // 2
    return int(generator.integers(0, height - crop + 1)), int(generator.integers(0, width - crop + 1))


def window_channels(hu: Array, args: ReadoutArgs) -> Array:
    """Turn a stack of slices into channels.

    Args:
        hu: (..., S, N, h, w) HU; a NumPy array or a torch tensor.
        args: Settings.

    Returns:
        (..., S, C, h, w) 0…1, float32 for integer input, on the same device.
    """
    if len(args.windows) == 1:
        return window_hu(hu, *args.window)
    windowed = [window_hu(hu, *window) for window in args.windows]
    channels: Array = rearrange(windowed, "windows ... n h w -> ... (windows n) h w")
    return channels


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
    for window in args.windows:
        if window[0] >= window[1]:
            name = "window" if window == args.window else "more_windows"
            raise ConfigError(f"readout.{name}={window}: the low end must lie below the high end")
