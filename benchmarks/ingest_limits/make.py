"""Writes the inputs: a large .nii.gz, and an RSNA tree of many small DICOM files with UIDs of their own."""

import argparse
import gzip
import io
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SLICES_A_SERIES = 100
_UID_DIGITS = 12
_SPACING_MM = (0.8, 0.8, 0.6)


def write_nifti(path: Path, slices: int, side: int, seed: int = 0) -> None:
    """Write an elliptic body with CT-like noise in air, slice by slice, so that this needs little memory itself."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = (rows / 0.6) ** 2 + (columns / 0.8) ** 2 < 1
    noise = draw.normal(0, 12, (16, side, side))
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((side, side, slices))
    header.set_sform(np.diag([-_SPACING_MM[0], -_SPACING_MM[1], _SPACING_MM[2], 1.0]), code=1)
    header.set_slope_inter(1, 0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for z in range(slices):
            picture = np.where(body, 40 + 30 * np.sin(z / 50), -1000) + noise[int(draw.integers(16))]
            file.write(picture.astype("<i2").tobytes())


def write_tree(root: Path, files: int) -> None:
    """Write `train_images/<patient>/<series>/<n>.dcm`: 8 x 8 pixels, one patient a series, distinct instance UIDs."""
    template = _slice()
    for number in range(files):
        series, z = divmod(number, SLICES_A_SERIES)
        folder = root / "train_images" / str(series + 1) / str(10_000 + series)
        if z == 0:
            folder.mkdir(parents=True)
        (folder / f"{z + 1}.dcm").write_bytes(_filled(template, series, z))


def _slice() -> bytes:
    """One slice whose UIDs, number and height are marked by digits to be replaced by as many others."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{'7' * _UID_DIGITS}"
    ds.Modality, ds.PatientID = "CT", "8" * _UID_DIGITS
    ds.StudyInstanceUID = ds.SeriesInstanceUID = f"1.2.4.{'8' * _UID_DIGITS}"
    ds.InstanceNumber, ds.ImagePositionPatient = "666666", ["0", "0", "-555555"]
    ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    ds.Rows = ds.Columns = 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = np.arange(64, dtype="<u2").tobytes()
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _filled(template: bytes, series: int, z: int) -> bytes:
    values = {b"7": series * 1000 + z, b"8": series + 1, b"6": z + 1, b"5": z}
    return re.sub(rb"([5678])\1{5,}", lambda found: b"1%0*d" % (len(found[0]) - 1, values[found[1]]), template)


def main() -> None:
    """Write one of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["nifti", "tree"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, required=True, help="slices, or files")
    options = parser.parse_args()
    if options.what == "nifti":
        write_nifti(options.out, options.count, 512)
    else:
        write_tree(options.out, options.count)


if __name__ == "__main__":
    main()
