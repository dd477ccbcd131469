"""Decodes the pixels of a DICOM file to Hounsfield units: stored value × slope + intercept (PS3.3 C.11.1).

A size that the header claims is held against what the file holds before anything of that size is allocated.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pydicom
from jaxtyping import Int16, Num
from pydicom.dataset import Dataset

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import OpenDicom, open_dicom
from voco2d.io.dicom_elements import DAMAGED_FILE_ERRORS, text
from voco2d.io.dicom_frames import ENHANCED_CT, frame_rescale
from voco2d.io.dicom_plain import START_BYTES, Header, parse_plain_header
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.io.dicom_stored import StoredFrames
from voco2d.io.hounsfield import HU_FLOOR

_AIR_BELOW_HU = -500
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class SlicePixels:
    """One slice as the reader takes it.

    Args:
        hu: Rows × columns int16 Hounsfield units; padding is `HU_FLOOR`.
        inverted: The stored values were the negative of the picture and have been turned.
        padded: Pixels that the file calls padding and that would otherwise have passed for something denser than air.
    """

    hu: Int16[np.ndarray, "H W"]
    inverted: bool = False
    padded: int = 0


class PixelFile:
    """The frames of one open DICOM file; use it as a context manager.

    Args:
        path: A DICOM file of grey frames, in any transfer syntax the installed decoders know.

    Raises:
        ReadError: When the file is damaged, in colour, without pixels, or lies about its size.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with quiet_pydicom():
                self._file = open_dicom(path)
                self._dataset = _read_header(self._file)
                self._frames = StoredFrames(self._file, self._dataset, path)
        except DAMAGED_FILE_ERRORS as error:
            self.close()
            raise _damage(path, error) from error
        except ReadError:
            self.close()
            raise
        self._is_enhanced = text(self._dataset, "SOPClassUID") in ENHANCED_CT

    def __enter__(self) -> "PixelFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()

    def hu(self, frame: int | None = None) -> Int16[np.ndarray, "H W"]:
        """Decode one frame exactly: rounded and clipped to int16, nothing raised, flipped or resampled.

        Args:
            frame: Index from 0 in a multi-frame file, `None` in a file of one slice.

        Raises:
            ReadError: When its pixels are damaged or cut short, or there is no such frame.
        """
        return self._decode(frame)[0].hu

    def slice_pixels(self, frame: int | None = None) -> SlicePixels:
        """Decode one frame and set what it calls padding to air.

        Args:
            frame: As in `hu`.

        Raises:
            ReadError: As `hu`.
        """
        pixels, stored = self._decode(frame)
        padding = self._padding(stored)
        if padding is None:
            return pixels
        hu = pixels.hu
        padded = int(np.count_nonzero(hu[padding] > HU_FLOOR))
        hu[padding] = HU_FLOOR
        return SlicePixels(hu, pixels.inverted, padded)

    def _decode(self, frame: int | None) -> tuple[SlicePixels, Num[np.ndarray, "H W"]]:
        try:
            with quiet_pydicom():
                if frame is None and self._frames.count > 1:
                    raise ReadError(self._path, "multi-frame pixels, not one grey slice")
                stored = self._frames.read(frame or 0)
                return self._straighten(stored, frame), stored
        except DAMAGED_FILE_ERRORS as error:
            raise _damage(self._path, error) from error

    def _straighten(self, stored: Num[np.ndarray, "H W"], frame: int | None) -> SlicePixels:
        """Rescale, and undo an inversion that some converters put into the pixels of MONOCHROME1 files.

        MONOCHROME1 says how to show the values, not what they mean (PS3.3 C.7.6.3.1.2), so they are inverted
        only where the frame of the picture is air that way and isn't as stored.
        """
        slope, intercept = self._rescale_of(frame)
        hu = _rescale(stored, slope, intercept)
        if self._frames.photometric == "MONOCHROME1" and not _air_around(hu):
            turned = _rescale(self._frames.highest - stored.astype(np.int32), slope, intercept)
            if _air_around(turned):
                return SlicePixels(turned, inverted=True)
        return SlicePixels(hu)

    def _rescale_of(self, frame: int | None) -> tuple[float, float]:
        if self._is_enhanced:
            assert isinstance(self._dataset, Dataset)
            slope, intercept = frame_rescale(self._dataset, frame or 0)
        else:
            slope, intercept = (
                _number(self._dataset, "RescaleSlope", 1.0),
                _number(self._dataset, "RescaleIntercept", 0.0),
            )
        if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
            raise ReadError(self._path, f"rescale slope {slope:g} and intercept {intercept:g} make no Hounsfield units")
        return slope, intercept

    def _padding(self, stored: Num[np.ndarray, "H W"]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
        """Pixels that lie outside the field of view (PS3.3 C.7.5.1.1.2), or `None`.

        Padding makes a round picture rectangular, so it is believed only where a corner of the picture holds it:
        a value that also occurs in the patient would otherwise punch holes into the body.
        """
        limits = self._frames.padding
        if limits is None:
            return None
        low, high = limits
        corners = stored[[0, 0, -1, -1], [0, -1, 0, -1]]
        if not np.any((corners >= low) & (corners <= high)):
            return None
        return (stored >= low) & (stored <= high)


def read_slice_hu(path: Path, frame: int | None = None) -> Int16[np.ndarray, "H W"]:
    """Decode one slice exactly: rounded and clipped to int16, nothing raised, flipped or resampled.

    Args:
        path: A DICOM file with grey frames, in any transfer syntax the installed decoders know.
        frame: Index from 0 in a multi-frame file, `None` in a file of one slice.

    Raises:
        ReadError: When the file is damaged, cut short, in colour, without pixels, or lies about its size.
    """
    with PixelFile(path) as file:
        return file.hu(frame)


def _read_header(file: OpenDicom) -> Header:
    """Read the header and leave the file where the pixel data element begins."""
    plain = parse_plain_header(file.read(START_BYTES))
    if plain is None or text(plain, "SOPClassUID") in ENHANCED_CT:
        file.seek(0)
        return pydicom.dcmread(file, stop_before_pixels=True, force=True)
    file.seek(plain.pixels)
    return plain


def _damage(path: Path, error: BaseException) -> ReadError:
    if isinstance(error, NotImplementedError):
        return ReadError(path, "compressed in a way that can't be decoded; convert it to a common syntax")
    return ReadError(path, "pixel data damaged or cut short")


def _rescale(stored: Num[np.ndarray, "H W"], slope: float, intercept: float) -> Int16[np.ndarray, "H W"]:
    ends = (int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept)
    whole = slope.is_integer() and intercept.is_integer()
    if whole and slope == 1 and _INT16.min <= min(ends) and max(ends) <= _INT16.max:
        # arithmetic modulo 2**16 is exact where the result fits, and four times as fast as wider integers
        is_word = stored.dtype.itemsize == 2 and stored.dtype.isnative
        words: Int16[np.ndarray, "H W"] = stored.view(np.int16) if is_word else stored.astype(np.int16)
        return words + np.int16((int(intercept) + 2**15) % 2**16 - 2**15)
    if whole and max(abs(end) for end in ends) < 2**62:
        return np.clip(stored.astype(np.int64) * int(slope) + int(intercept), _INT16.min, _INT16.max).astype(np.int16)
    return np.clip(np.rint(stored.astype(np.float64) * slope + intercept), _INT16.min, _INT16.max).astype(np.int16)


def _number(dataset: Header, tag: str, empty: float) -> float:
    value = dataset.get(tag)
    return float(empty if value is None or value == "" else value)


def _air_around(hu: Int16[np.ndarray, "H W"]) -> bool:
    border = np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])
    return bool(np.median(border) < _AIR_BELOW_HU)
