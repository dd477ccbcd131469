"""Writes a DICOM series of any size with CT-like noise, RLE compressed as the RSNA 2023 files are."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, RLELossless
from rle.utils import encode_pixel_data
from scipy import ndimage

NOISE_HU = 34.0
_PLANES = 8


def write_series(folder: Path, slices: int, size: int, seed: int = 0) -> int:
    """Write `slices` files of `size` × `size` pixels, 12 bits unsigned, intercept -1024.

    A 512 × 512 slice comes to about 250 kB, like the real ones. Eight different pictures take turns, so that a series
    of 1,700 slices is written in seconds; each file has its own header and position.

    Returns:
        Bytes written.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frames = [_frame(rng, size, turn) for turn in range(_PLANES)]
    total = 0
    for z in range(slices):
        header = _header(size, z)
        header.PixelData = encapsulate([frames[z % _PLANES]])
        header["PixelData"].VR = "OB"
        header["PixelData"].is_undefined_length = True
        path = folder / f"{z + 1}.dcm"
        header.save_as(path, enforce_file_format=True)
        total += path.stat().st_size
    return total


def _frame(rng: np.random.Generator, size: int, turn: int) -> bytes:
    y, x = np.mgrid[:size, :size] / size * 2 - 1
    wide = 1 + 0.05 * np.sin(turn)
    hu = np.full((size, size), -1000.0)
    hu[(y > 0.62) & (y < 0.66) & (np.abs(x) < 0.8)] = -100  # the table
    for centre, radii, value in [
        ((0, 0), (0.82, 0.58), -90),
        ((0, 0), (0.76, 0.52), 45),
        ((-0.3, -0.1), (0.32, 0.26), 110),
        ((0.4, 0.0), (0.14, 0.16), 130),
        ((0.1, -0.2), (0.15, 0.1), -850),
        ((0, 0.35), (0.1, 0.1), 450),
    ]:
        inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < wide
        hu[inside] = value
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), 0.6)
    hu += noise / noise.std() * NOISE_HU
    stored = np.clip(np.rint(hu) + 1024, 0, 4095).astype("<u2")
    stored[x * x + y * y > 1] = 0
    return encode_pixel_data(stored.tobytes(), _header(size, 0), byteorder="<")


def _header(size: int, z: int) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = RLELossless
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = f"1.2.3.4.5.{z + 1}"
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = "1", "1.2.3", "1.2.3.4"
    header.SliceThickness, header.KVP, header.PatientPosition = 1.0, 120.0, "FFS"
    header.InstanceNumber = z + 1
    header.ImagePositionPatient = [-180.0, -180.0, 500.0 - 0.8 * z]
    header.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows = header.Columns = size
    header.PixelSpacing = [360 / size, 360 / size]
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.WindowCenter, header.WindowWidth = 50.0, 400.0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = -1024.0, 1.0, "HU"
    return header
