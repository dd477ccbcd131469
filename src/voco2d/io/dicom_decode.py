"""Decodes the slices of one DICOM stack in their order, and says what became of each file."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco2d.errors import ReadError
from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_pixels import PixelFile, SlicePixels
from voco2d.io.hounsfield import HU_FLOOR
from voco2d.io.source import Rejection
from voco2d.io.spool import fill
from voco2d.types import HuVolume

_HIGHEST = np.iinfo(np.int16).max


@dataclass
class DecodedStack:
    """What has been decoded: hu[i] is the slice of used[i]; slices stand from superior to inferior.

    Of the `duplicates` at positions that are taken already, `unlike` show another picture.
    """

    hu: HuVolume
    used: list[SliceHeader]
    rejections: list[Rejection]
    duplicates: int = 0
    unlike: int = 0
    inverted: int = 0
    padded: int = 0


def decode(positions: Sequence[Sequence[SliceHeader]]) -> DecodedStack:
    """Decode one slice a position; a position none of whose files can be decoded falls out."""
    stack = DecodedStack(np.empty((0, *positions[0][0].shape), np.int16), [], [])
    with ExitStack() as open_files:
        frames: dict[Path, PixelFile] = {}
        slices = (pixels.hu for same in positions for pixels in _decode_one(same, stack, frames, open_files))
        stack.hu = fill((len(positions), *positions[0][0].shape), slices)
    return stack


def _decode_one(
    same: Sequence[SliceHeader], stack: DecodedStack, frames: dict[Path, PixelFile], open_files: ExitStack
) -> Iterator[SlicePixels]:
    """Yield the first slice of one position that can be decoded, and enter in `stack` what became of all."""
    kept: SlicePixels | None = None
    for header in same:
        try:
            pixels = _read_pixels(header, frames, open_files)
        except ReadError as error:
            stack.rejections.append(Rejection(error.path, error.reason))
            continue
        if pixels.hu.min() < HU_FLOOR:  # a twentieth of the time of clipping, and rarely so
            np.clip(pixels.hu, HU_FLOOR, _HIGHEST, out=pixels.hu)  # a fifth of the time of np.maximum
        if kept is not None:
            unlike = not np.array_equal(pixels.hu, kept.hu)
            stack.duplicates += 1
            stack.unlike += unlike
            reason = f"duplicate: another slice {'with another picture ' if unlike else ''}has the same position"
            stack.rejections.append(Rejection(str(header.path), reason))
            continue
        kept = pixels
        stack.used.append(header)
        stack.inverted += pixels.inverted
        stack.padded += pixels.padded > 0
        yield pixels


def _read_pixels(header: SliceHeader, frames: dict[Path, PixelFile], open_files: ExitStack) -> SlicePixels:
    """Decode one slice; a multi-frame file stays open for its next frame."""
    if header.frame is None:
        with PixelFile(header.path) as file:
            return _checked(file.slice_pixels(), header)
    if header.path not in frames:
        frames[header.path] = open_files.enter_context(PixelFile(header.path))
    return _checked(frames[header.path].slice_pixels(header.frame), header)


def _checked(pixels: SlicePixels, header: SliceHeader) -> SlicePixels:
    if pixels.hu.shape != header.shape:
        raise ReadError(header.path, "the pixels have another size than the header says")
    return pixels
