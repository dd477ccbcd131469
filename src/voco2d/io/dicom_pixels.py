"""Decodes the pixels of one DICOM file to Hounsfield units: stored value × slope + intercept (PS3.3 C.11.1)."""

from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Int16, Num
from pydicom import uid
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import pixel_array

from voco2d.errors import ReadError
from voco2d.io.dicom_header import DAMAGED_FILE_ERRORS, quiet_pydicom

_FASTEST_DECODER = {
    uid.RLELossless: "pylibjpeg",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.JPEGLosslessSV1: "pylibjpeg",
    uid.JPEGLossless: "pylibjpeg",
    uid.JPEGExtended12Bit: "pylibjpeg",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
}
_AIR_BELOW_HU = -500


def read_slice_hu(path: Path) -> Int16[np.ndarray, "H W"]:
    """Decode one file exactly: rounded and clipped to int16, nothing raised, flipped or resampled.

    Args:
        path: A DICOM file with one grey frame, in any transfer syntax the installed decoders know.

    Raises:
        ReadError: When the file is damaged, cut short, in colour or without pixels.
    """
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path, force=True)
            if "PixelData" not in dataset:
                raise ReadError(path, "no pixel data, or cut short")
            _name_transfer_syntax(dataset)
            plugin = _FASTEST_DECODER.get(dataset.file_meta.TransferSyntaxUID, "")
            stored = _decode(dataset, plugin)
            if stored.ndim != 2:
                raise ReadError(path, "colour or multi-frame pixels, not one grey slice")
            return _straighten(stored, dataset)
    except NotImplementedError as error:
        raise ReadError(path, "compressed in a way that can't be decoded; convert it to a common syntax") from error
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, f"pixel data damaged or cut short ({type(error).__name__})") from error


def _decode(dataset: FileDataset, plugin: str) -> Num[np.ndarray, "..."]:
    """Decode, with a panic of a decoder written in Rust turned into an ordinary error.

    PyO3's PanicException derives from BaseException, has no importable name, and would end the whole run.
    """
    try:
        return pixel_array(dataset, decoding_plugin=plugin)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError("the decoder panicked") from error


def _name_transfer_syntax(dataset: FileDataset) -> None:
    """Write down the encoding that was found in a file without a meta header; the decoder asks for it."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, _ = dataset.original_encoding
    dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian


def _straighten(stored: Num[np.ndarray, "H W"], dataset: FileDataset) -> Int16[np.ndarray, "H W"]:
    """Rescale, and undo an inversion that some converters put into the pixels of MONOCHROME1 files.

    MONOCHROME1 says how to show the values, not what they mean (PS3.3 C.7.6.3.1.2), so they are inverted
    only where the frame of the picture is air that way and isn't as stored.
    """
    hu = _rescale(stored, dataset)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not _air_around(hu):
        ones = 2 ** int(dataset.BitsStored) - 1
        total = -1 if int(dataset.PixelRepresentation) == 1 else ones
        inverted = _rescale(total - stored.astype(np.int32), dataset)
        return inverted if _air_around(inverted) else hu
    return hu


def _rescale(stored: Num[np.ndarray, "H W"], dataset: FileDataset) -> Int16[np.ndarray, "H W"]:
    slope, intercept = (
        _number(dataset, tag, empty) for tag, empty in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope.is_integer() and intercept.is_integer():
        hu = stored.astype(np.int64) * int(slope) + int(intercept)
    else:
        hu = np.rint(stored.astype(np.float64) * slope + intercept)
    limits = np.iinfo(np.int16)
    return np.clip(hu, limits.min, limits.max).astype(np.int16)


def _number(dataset: FileDataset, tag: str, empty: float) -> float:
    value = dataset.get(tag)
    return float(empty if value is None or value == "" else value)


def _air_around(hu: Int16[np.ndarray, "H W"]) -> bool:
    border = np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])
    return bool(np.median(border) < _AIR_BELOW_HU)
