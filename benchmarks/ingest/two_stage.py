"""The two-stage way to prepare a series: DICOM to PNG files, then PNG files to a resized array."""

import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from scipy import ndimage

SIZE = (96, 256, 256)
PNG_SETTINGS: Mapping[str, Mapping[str, int]] = {
    "opencv": {"compress_level": 1, "compress_type": zlib.Z_RLE},
    "pillow": {"compress_level": 6},
    "stored": {"compress_level": 0},
}
"""OpenCV's default (level 1, run lengths only), Pillow's own default, and no compression at all: the cheapest."""

_WINDOW_HU = (-150.0, 250.0)
_BODY_VALUE = 20


def dicom_to_png(source: Path, folder: Path, png: str) -> None:
    """Stage one: decode each slice, window it to 8 bits, write it as a PNG file."""
    folder.mkdir(parents=True)
    low, high = _WINDOW_HU
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        grey = ((np.clip(hu, low, high) - low) / (high - low) * 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{path.stem}.png", **PNG_SETTINGS[png])


def png_to_array(source: Path, folder: Path, target: Path) -> None:
    """Stage two: read the PNG files and the DICOM headers again, stack, crop to the body, resize, save."""
    positions = {}
    for path in source.iterdir():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        positions[path.stem] = float(header.ImagePositionPatient[2])
    names = sorted(positions, key=lambda name: -positions[name])
    stack = np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in names])
    rows, columns = _body(stack)
    np.save(target, _resize(stack[:, rows, columns]))


def _body(stack: np.ndarray) -> tuple[slice, slice]:
    """The box around the largest contour of all slices, looked for on every slice."""
    boxes = []
    for plane in stack:
        labels, count = ndimage.label(plane > _BODY_VALUE)
        if count:
            largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
            mask = labels == largest
            edges = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            boxes.append(tuple(slice(edge[0], edge[-1] + 1) for edge in edges))
    h, w = zip(*boxes, strict=True)
    return tuple(slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in (h, w))


def _resize(stack: np.ndarray) -> np.ndarray:
    """By area: in the plane with Pillow, which is quick, then along Z as a mean of neighbouring slices."""
    planes = np.stack([np.asarray(Image.fromarray(plane).resize(SIZE[:0:-1], Image.Resampling.BOX)) for plane in stack])
    edges = np.linspace(0, len(planes), SIZE[0] + 1).astype(int)
    return np.stack([planes[a : max(b, a + 1)].mean(axis=0) for a, b in pairwise(edges)])
