"""Writes pictures and pages as DICOM objects of the study that they are about."""

import io
from typing import Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from voco2d.extras import require
from voco2d.inference.results import StudyResult
from voco2d.service.caveats import caveats
from voco2d.service.structured_report import MANUFACTURER
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.service.study_header import TYPE_2, copy_character_set
from voco2d.targets import TargetSet
from voco2d.version import VERSION

IMAGE_SERIES_NUMBER: Final = 9302
PDF_SERIES_NUMBER: Final = 9303
_LONGEST_COMMENT: Final = 10240
"""Characters of a text (LT, PS3.5 6.2)."""
_DESCRIPTION: Final = f"voco2d {VERSION}, research use only"


def key_image(files: StudyFiles, entry: KeySlice, number: int, result: StudyResult) -> Dataset:
    """Write the picture of a slice as secondary capture image (DICOM PS3.3 A.8.1); those of a study are one series.

    Args:
        files: The images that the slice is one of.
        entry: The slice; it has a picture.
        number: Of the image in its series, from 1.
        result: The answer; its comment says what the slice speaks for and what must be known beside it.

    Raises:
        UsageError: highdicom is missing.
    """
    sc = require("highdicom.sc", "dicom", "a key image")
    with Image.open(io.BytesIO(entry.picture)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    source = files.header(entry.instance)
    image: Dataset = sc.SCImage.from_ref_dataset(
        ref_dataset=source,
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
        specific_character_set=None,
    )
    copy_character_set(source, image)
    image.SeriesDescription = _DESCRIPTION
    image.Laterality = ""
    series = [files.series_number(each.series_id) for each in result.series]
    what = f"{entry.target}: slice that speaks most for {result.targets.event}, research use only"
    image.ImageComments = "; ".join(filter(None, (what, *caveats(result, series))))[:_LONGEST_COMMENT]
    return image


def encapsulated_pdf(files: StudyFiles, page: bytes, now: tuple[str, str], targets: TargetSet) -> Dataset:
    """Write a PDF as DICOM object (PS3.3 A.45.1).

    Args:
        files: The study it is about.
        page: The PDF.
        now: Date and time of the answer, as DICOM spells them (DA, TM).
        targets: Of the answer; they say what the page is about.
    """
    dataset = Dataset()
    copy_character_set(files.first, dataset)
    for name in ("StudyInstanceUID", *TYPE_2):
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
