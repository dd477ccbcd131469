"""A phantom series as DICOM files with the tags, and only the tags, of the RSNA 2023 competition's files."""

from pathlib import Path

import numpy as np
from jaxtyping import Int16
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, RLELossless
from rle.utils import encode_pixel_data

from voco2d.data.phantom.scan import PixelFormat
from voco2d.data.phantom.series import PhantomSeries

_ROOT_UID = "1.2.123.12345.1.2.3"
_WRITER_UID = UID("1.2.3.123456.4.5.1234.1.12.0")
_FRAME_ROOT_UID = "1.2.826.0.1.3680043.8.498.618419013549"


def write_dicom_series(series: PhantomSeries, folder: Path, hospital: bool = False) -> None:
    """Write `<instance number>.dcm` for every slice into an existing folder.

    Args:
        series: What to write.
        folder: Where; files that are there are overwritten.
        hospital: See `PhantomArgs`.
    """
    for z, number in enumerate(series.instance_numbers):
        dataset = _header(series, z, number)
        if hospital:
            _complete(dataset, series, number)
        stored = _stored(series.hu[z], series.scan.pixels)
        frame = encode_pixel_data(stored.tobytes(), dataset, byteorder="<")
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def _header(series: PhantomSeries, z: int, number: int) -> FileDataset:
    scan = series.scan
    study_uid = f"{_ROOT_UID}.{series.patient_id}"
    instance_uid = UID(f"{study_uid}.1.{number}")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = RLELossless
    meta.ImplementationClassUID = _WRITER_UID
    meta.ImplementationVersionName = "VOCO2D PHANTOM"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID = instance_uid
    dataset.ContentDate = "20230721"
    dataset.ContentTime = "120000.000000"
    dataset.PatientID = str(series.patient_id)
    dataset.SliceThickness = scan.spacing_mm[0]
    dataset.KVP = 120.0
    dataset.PatientPosition = scan.position
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = f"{study_uid}.{series.series_id}"
    dataset.SeriesNumber = series.series_id % 100
    dataset.InstanceNumber = number
    x, y, top = scan.origin_mm
    dataset.ImagePositionPatient = [x, y, round(top - z * scan.spacing_mm[0], 4)]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.FrameOfReferenceUID = f"{_FRAME_ROOT_UID}.{series.patient_id}"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = scan.shape[1:]
    dataset.PixelSpacing = list(scan.spacing_mm[1:])
    dataset.BitsAllocated = 16
    dataset.BitsStored = scan.pixels.bits_stored
    dataset.HighBit = scan.pixels.bits_stored - 1
    dataset.PixelRepresentation = int(scan.pixels.signed)
    dataset.WindowCenter, dataset.WindowWidth = 50.0, 400.0
    dataset.RescaleIntercept, dataset.RescaleSlope = float(scan.pixels.intercept), 1.0
    dataset.RescaleType = "HU"
    return dataset


def _complete(dataset: FileDataset, series: PhantomSeries, number: int) -> None:
    """Add what a CT image must have beyond RSNA's tags (PS3.3 A.3)."""
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = UID(f"{dataset.SeriesInstanceUID}.{number}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "voco2d phantom"
    dataset.PatientName = f"Phantom^{series.patient_id}"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime = str(series.patient_id), "20230721", "120000"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.PositionReferenceIndicator = ""
    dataset.AcquisitionNumber = 1


def _stored(hu: Int16[np.ndarray, "H W"], pixels: PixelFormat) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Return stored values as little-endian 16-bit words; signed ones in two's complement of the bits stored."""
    words: np.ndarray[tuple[int, ...], np.dtype[np.uint16]] = np.bitwise_and(
        hu.astype(np.int32) - pixels.intercept, 2**pixels.bits_stored - 1
    ).astype("<u2")
    return words
