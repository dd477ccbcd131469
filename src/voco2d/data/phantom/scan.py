"""How a series is acquired: its grid, phase and file format, noise, and the field of view."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int16
from scipy import ndimage

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.physique import Phase, Physique

Places = Float64[np.ndarray, "_"]
"""Where voxel centres lie along one axis, millimetres."""

PatientPosition = Literal["HFS", "FFS"]


@dataclass(frozen=True)
class PixelFormat:
    """How Hounsfield units are stored.

    Args:
        bits_stored: Bits a pixel, of 16 allocated.
        signed: Whether stored values are two's complement.
        intercept: Rescale intercept; the slope is 1.
    """

    bits_stored: int
    signed: bool
    intercept: int

    @property
    def range_hu(self) -> tuple[int, int]:
        """Smallest and largest Hounsfield units that can be stored, within int16."""
        low = -(2 ** (self.bits_stored - 1)) if self.signed else 0
        high = low + 2**self.bits_stored - 1
        return max(low + self.intercept, -32768), min(high + self.intercept, 32767)


_FORMATS: Mapping[PixelFormat, float] = {
    PixelFormat(12, False, -1024): 0.4,
    PixelFormat(16, True, 0): 0.2,
    PixelFormat(16, True, -1024): 0.15,
    PixelFormat(16, False, -8192): 0.1,
    PixelFormat(12, True, 0): 0.1,
    PixelFormat(13, False, -1024): 0.05,
}
_FFS_SHARE = 0.59
_UPWARD_SHARE = 0.25
_LIVER_TO_KIDNEYS_S = (-22.0, 250.0)
_TOP_S, _BOTTOM_S = (-95.0, -22.0), (250.0, 440.0)


@dataclass(frozen=True)
class Scan:
    """One series' acquisition.

    Args:
        phase: Contrast phase.
        shape: Slices, rows, columns.
        spacing_mm: Along (Z, H, W).
        top_mm: Patient Z of the first slice below the liver's dome, millimetres of the real patient, downwards.
        shift_mm: Offset of the field of view's centre from the patient's axis along (H, W).
        origin_mm: LPS position of the first voxel of the top slice, as the header tells it.
        position: How the patient lay; it changes nothing in the pixels.
        upward: Whether instance numbers grow from the feet to the head.
        first_instance: The lowest instance number.
        pixels: How values are stored.
        noise_hu: Deviation of the noise.
        blur_pixels: In-plane width of the noise's correlation.
        incomplete: Whether coverage begins or ends within an organ.
        black_slices: How many slices at the bottom, or if negative at the top, are partly black.
        black_rows: Share of their rows that are.
    """

    phase: Phase
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    top_mm: float
    shift_mm: tuple[float, float]
    origin_mm: tuple[float, float, float]
    position: PatientPosition
    upward: bool
    first_instance: int
    pixels: PixelFormat
    noise_hu: float
    blur_pixels: float
    incomplete: bool = False
    black_slices: int = 0
    black_rows: float = 0.0

    @property
    def axes_mm(self) -> tuple[Places, Places, Places]:
        """Places of slices, rows and columns: below the liver's dome, behind and left of the patient's axis."""
        starts = [self.top_mm]
        for shift, step, count in zip(self.shift_mm, self.spacing_mm[1:], self.shape[1:], strict=True):
            starts.append(shift - step * (count - 1) / 2)
        z, y, x = (
            start + step * np.arange(count)
            for start, step, count in zip(starts, self.spacing_mm, self.shape, strict=True)
        )
        return z, y, x


def draw_scan(rng: np.random.Generator, args: PhantomArgs, physique: Physique, phase: Phase) -> Scan:
    """Draw an acquisition that always holds the patient from the liver to both kidneys.

    Args:
        rng: Source of randomness.
        args: Size and mean number of slices.
        physique: The patient, for the field of view.
        phase: Contrast phase.
    """
    along, _, across = physique.scale
    top = rng.uniform(*_TOP_S) * along
    bottom = (rng.uniform(*_BOTTOM_S) if rng.random() < 0.8 else _BOTTOM_S[0]) * along
    slices = max(round(args.mean_slices * rng.uniform(0.7, 1.35)), 6)
    step = round((bottom - top) / (slices - 1), 2)
    field_of_view = rng.uniform(350, 415) * max(across, physique.scale[1])
    pixel = round(field_of_view / args.size, 6)
    shift = (rng.uniform(-4, 12), rng.uniform(-10, 10))
    formats = list(_FORMATS)
    z = round(float(rng.uniform(-1700, 200)), 1)
    half = pixel * (args.size - 1) / 2
    return Scan(
        phase=phase,
        shape=(slices, args.size, args.size),
        spacing_mm=(step, pixel, pixel),
        top_mm=top,
        shift_mm=(float(shift[0]), float(shift[1])),
        origin_mm=(round(float(shift[1] - half), 5), round(float(shift[0] - half + rng.uniform(-170, 30)), 5), z),
        position="FFS" if rng.random() < _FFS_SHARE else "HFS",
        upward=bool(rng.random() < _UPWARD_SHARE),
        first_instance=int(rng.integers(1, 400)) if rng.random() < 0.5 else 1,
        pixels=formats[int(rng.choice(len(formats), p=list(_FORMATS.values())))],
        noise_hu=args.noise_hu * rng.uniform(0.7, 1.35),
        blur_pixels=float(rng.uniform(0.5, 0.85)),
    )


def expose(hu: Float32[np.ndarray, "Z H W"], scan: Scan, rng: np.random.Generator) -> Int16[np.ndarray, "Z H W"]:
    """Add noise, cut the round field of view and round to what the file can hold.

    Args:
        hu: Painted Hounsfield units.
        scan: The acquisition.
        rng: Source of the noise.
    """
    rows, columns = (np.linspace(-1, 1, count, dtype=np.float32) for count in hu.shape[1:])
    radius = np.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)  # (H, W)
    deviation = scan.noise_hu * (1.15 - 0.45 * np.minimum(radius, 1)) / _deviation_left(scan.blur_pixels)
    low, high = scan.pixels.range_hu
    stored = np.empty(hu.shape, np.int16)
    for painted, out in zip(hu, stored, strict=True):
        noise = rng.standard_normal(painted.shape, dtype=np.float32)
        for axis in (0, 1):
            noise = ndimage.gaussian_filter1d(noise, scan.blur_pixels, axis=axis, truncate=2.5, mode="nearest")
        noise *= deviation.astype(np.float32)
        noise += painted
        noise[radius > 1] = -1024
        out[...] = np.clip(np.rint(noise), max(low, -1024), min(high, 3071))
    return stored


def _deviation_left(blur_pixels: float) -> float:
    """Return the deviation that white noise of deviation 1 keeps after the blur along both axes."""
    impulse = np.zeros(15)
    impulse[7] = 1
    kernel = ndimage.gaussian_filter1d(impulse, blur_pixels, truncate=2.5)
    return float((kernel**2).sum())
