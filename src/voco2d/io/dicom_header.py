"""Reads DICOM headers, without their pixels, into what is needed to group and sort slices (DICOM PS3.3 C.7.6.2)."""

import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_plain import Header, PlainHeader, read_plain_header

DAMAGED_FILE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on damaged files."""

_SLICE_TAGS = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleType",
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_OTHER_PICTURES = {
    frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}): "localizer",
    frozenset({"DOSE", "SCREENSAVE", "SCREEN", "PROTOCOL"}): "dose or protocol page",
    frozenset(
        {"MIP", "MINIP", "MAXIMUM", "MINIMUM", "PROJECTION", "VRT", "SSD", "RENDERED"}
    ): "projection or rendering of a volume",
}
_HU_TYPES = ("", "HU", "HU_MOD", "US")
"""Rescale types (PS3.3 C.11.1.1.2) that are or may be Hounsfield units; US is "unspecified"."""
_FIRST_GROUPS = (0x0002, 0x0008)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """Header of one axial, sagittal or coronal CT slice.

    Args:
        path: The file.
        shape: Rows and columns.
        position_mm: LPS position of the centre of the first pixel.
        orientation: Unit vectors, LPS, along which the column index and then the row index increase; six numbers.
        pixel_spacing_mm: Distance of neighbouring rows, then of neighbouring columns.
        instance_number: As stored, `None` where absent.
        patient_id: Empty where absent, as are the other two.
        study_id: Study instance UID.
        series_id: Series instance UID.
        has_rescale: Whether a rescale intercept is stored.
        acquisition: Acquisition number and temporal position as text, each empty where absent.
        frame: Index from 0 of the frame in a multi-frame file, `None` in a file of one slice.
    """

    path: Path
    shape: tuple[int, int]
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...]
    instance_number: int | None
    patient_id: str
    study_id: str
    series_id: str
    has_rescale: bool
    acquisition: tuple[str, str] = ("", "")
    frame: int | None = None


def has_dicom_content(path: Path) -> bool:
    """Say whether the file begins like DICOM: "DICM" after a preamble, or a first element without one.

    Raises:
        ReadError: When the file can't be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})") from error
    if start[128:] == b"DICM":
        return True
    if len(start) < 8:
        return False
    group, element, length = struct.unpack("<HHL", start[:8])
    explicit = re.fullmatch(rb"[A-Z]{2}", start[4:6]) is not None
    return group in _FIRST_GROUPS and element < 0x0100 and (explicit or length < 0x0100)


def open_header(path: Path, tags: Sequence[str]) -> FileDataset:
    """Read the named `tags` of a file that has DICOM content.

    Raises:
        ReadError: When the header is damaged or cut short.
    """
    try:
        with open_dicom(path, header_only=True) as file:
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags), force=True)
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, "DICOM header damaged or cut short") from error


def text(header: Header, tag: str) -> str:
    """Value of a text element, stripped; empty where it is absent, empty or unreadable."""
    try:
        value = header.get(tag)
    except DAMAGED_FILE_ERRORS:
        return ""
    return "" if value is None else str(value).strip().strip("\0")


def modality_word(header: Header) -> str:
    """Modality as a short code, "" where absent, "unknown" where it is no code (and might be anything)."""
    modality = text(header, "Modality")
    return modality if re.fullmatch(r"[A-Z0-9]{0,16}", modality) else "unknown"


def open_slice_header(path: Path) -> Header:
    """Read what `slice_header` needs of one file.

    Raises:
        ReadError: When the file is no DICOM, or its header is damaged.
    """
    if plain := _plain_header(path):
        return plain
    if not has_dicom_content(path):
        raise ReadError(path, "not a DICOM file" + (" although named .dcm" if path.suffix.lower() == ".dcm" else ""))
    return open_header(path, _SLICE_TAGS)


def slice_header(header: Header, path: Path) -> SliceHeader:
    """Check and take over the header of one CT slice.

    A missing modality counts as CT, since the RSNA 2023 files have none.

    Args:
        header: As `open_slice_header` returns it.
        path: Its file.

    Raises:
        ReadError: When it is of another modality, no slice (`refuse_other_images`), or lacks geometry.
    """
    refuse_other_images(header, path)
    frames = numbers(header, "NumberOfFrames")
    if frames and frames[0] > 1:
        raise ReadError(path, "multi-frame DICOM without an enhanced CT header; convert it to one file a slice")
    if not text(header, "Rows"):
        raise ReadError(
            path, f"DICOM without an image, or cut short (modality {modality_word(header) or 'not stated'})"
        )
    instance = numbers(header, "InstanceNumber")
    rows, columns = _geometry(header, path, "Rows", 1), _geometry(header, path, "Columns", 1)
    return SliceHeader(
        path=path,
        shape=(int(rows[0]), int(columns[0])),
        position_mm=_geometry(header, path, "ImagePositionPatient", 3),
        orientation=_geometry(header, path, "ImageOrientationPatient", 6),
        pixel_spacing_mm=_geometry(header, path, "PixelSpacing", 2),
        instance_number=int(instance[0]) if instance and math.isfinite(instance[0]) else None,
        patient_id=text(header, "PatientID"),
        study_id=text(header, "StudyInstanceUID"),
        series_id=text(header, "SeriesInstanceUID"),
        has_rescale=text(header, "RescaleIntercept") != "",
        acquisition=(text(header, "AcquisitionNumber"), text(header, "TemporalPositionIdentifier")),
    )


def _plain_header(path: Path) -> PlainHeader | None:
    try:
        return read_plain_header(path)
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})") from error


def refuse_other_images(header: Header, path: Path) -> None:
    """Refuse what is no CT picture of a slice, by modality, SOP class (PS3.4 B.5) and image type (PS3.3 C.8.2.1.1.1).

    Raises:
        ReadError: For other modalities, secondary captures, localizers, dose pages and projections of a volume.
    """
    modality = modality_word(header)
    if modality not in ("CT", ""):
        raise ReadError(path, f"modality {modality}, not CT")
    if text(header, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        raise ReadError(path, "secondary capture, not a CT slice")
    words = set(re.split(r"[^A-Z0-9]+", text(header, "ImageType").upper()))
    for marks, what in _OTHER_PICTURES.items():
        if words & marks:
            raise ReadError(path, f"{what}, not a slice of a volume")
    if text(header, "RescaleType").upper() not in _HU_TYPES:
        raise ReadError(path, "its RescaleType says that the values are no Hounsfield units")


def numbers(header: Header, tag: str) -> tuple[float, ...]:
    """Values of a numeric element; empty where it is absent or not numeric."""
    try:
        value: Any = header.get(tag)
        if value is None or value == "":
            return ()
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(float(item) for item in values)
    except DAMAGED_FILE_ERRORS:
        return ()


def _geometry(header: Header, path: Path, tag: str, count: int) -> tuple[float, ...]:
    values = numbers(header, tag)
    if len(values) != count or not all(abs(value) < 1e6 for value in values):
        raise ReadError(path, f"{tag} is missing or damaged, so the slice has no place in a volume")
    positive = tag in ("Rows", "Columns", "PixelSpacing")
    if positive and min(values) <= 0:
        raise ReadError(path, f"{tag} is not positive")
    return values
