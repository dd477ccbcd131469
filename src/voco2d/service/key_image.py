"""Writes pictures and pages as DICOM objects of the study that they are about."""

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from voco2d.extras import require
from voco2d.service.structured_report import MANUFACTURER
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.targets import TargetSet
from voco2d.version import VERSION

IMAGE_SERIES_NUMBER: Final = 9302
PDF_SERIES_NUMBER: Final = 9303
_DESCRIPTION: Final = f"voco2d {VERSION}, research use only"
_REPEATED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)


def key_images(files: StudyFiles, key_slices: Sequence[KeySlice], targets: TargetSet) -> Iterator[Dataset]:
    """Write each picture as secondary capture image (DICOM PS3.3 A.8.1), in one series.

    Args:
        files: The series that the slices are of.
        key_slices: Those without a picture are passed over.
        targets: Of the answer; they say what the slices speak for.

    Raises:
        UsageError: highdicom is missing.
    """
    sc = require("highdicom.sc", "dicom", "a key image")
    pictured = [entry for entry in key_slices if entry.picture]
    for number, entry in enumerate(pictured, start=1):
        with Image.open(io.BytesIO(entry.picture)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        image: Dataset = sc.SCImage.from_ref_dataset(
            ref_dataset=files.header(entry.instance),
            pixel_array=pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=files.uid("key image series"),
            series_number=IMAGE_SERIES_NUMBER,
            sop_instance_uid=files.uid(f"key image {entry.target} {entry.instance}"),
            instance_number=number,
            manufacturer=MANUFACTURER,
            patient_orientation=("L", "P"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        image.SeriesDescription = _DESCRIPTION
        image.Laterality = ""
        image.ImageComments = f"{entry.target}: slice that speaks most for {targets.event}, research use only"
        yield image


def encapsulated_pdf(files: StudyFiles, page: bytes, now: tuple[str, str], targets: TargetSet) -> Dataset:
    """Write a PDF as DICOM object (PS3.3 A.45.1).

    Args:
        files: The study it is about.
        page: The PDF.
        now: Date and time of the answer, as DICOM spells them (DA, TM).
        targets: Of the answer; they say what the page is about.
    """
    dataset = Dataset()
    for name in _REPEATED:
        setattr(dataset, name, files.first.get(name, ""))
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = files.uid("page")
    dataset.SeriesInstanceUID = files.uid("page series")
    dataset.SeriesNumber = PDF_SERIES_NUMBER
    dataset.SeriesDescription = _DESCRIPTION
    dataset.InstanceNumber = 1
    dataset.Modality = "DOC"
    dataset.Manufacturer = MANUFACTURER
    dataset.ConversionType = "WSD"
    dataset.ContentDate, dataset.ContentTime = now
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "NO"
    subject = "Abdominal trauma" if targets.is_rsna else "CT"
    dataset.DocumentTitle = f"{subject}, probabilities by algorithm"
    dataset.ConceptNameCodeSequence = []
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    dataset.EncapsulatedDocumentLength = len(page)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset
