"""Reads DICOM headers, without their pixels, into what is needed to group and sort slices (DICOM PS3.3 C.7.6.2)."""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_elements import DAMAGED_FILE_ERRORS, modality_word, numbers, text, words
from voco2d.io.dicom_kinds import refuse_other_images
from voco2d.io.dicom_plain import START_BYTES, Header, parse_plain_header

_SLICE_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "ConvolutionKernel",
    "BodyPartExamined",
    "SliceThickness",
    "KVP",
    "FilterType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleType",
    "VolumeBasedCalculationTechnique",
)
_FIRST_GROUPS = (0x0002, 0x0008)
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
CROOKED_AXES = "ImageOrientationPatient is damaged: its two directions are not perpendicular unit vectors"
_CROOKED = 0.02
"""Directions whose length is off by more, or whose cosine with each other is larger, are damaged; two digits after the
point, the fewest that are met, leave 0.0174 at most."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """Header of one axial, sagittal or coronal CT slice.

    Args:
        path: The file.
        shape: Rows and columns.
        position_mm: LPS position of the centre of the first pixel.
        orientation: Perpendicular unit vectors, LPS, along which the column index and then the row index increase;
            six numbers.
        pixel_spacing_mm: Distance of neighbouring rows, then of neighbouring columns.
        instance_number: As stored, `None` where absent.
        patient_id: Empty where absent, as are the other two.
        study_id: Study instance UID.
        series_id: Series instance UID.
        has_rescale: Whether a rescale intercept is stored.
        acquisition: Acquisition number and temporal position as text, each empty where absent.
        kernel: Convolution kernel.
        acquired: When it was acquired, text that sorts by time; empty strings where that is not stored.
        created: Likewise when the picture was made.
        setting: What else it was made with: image type, slice thickness, tube voltage, filter.
        frame: Index from 0 of the frame in a multi-frame file, `None` in a file of one slice.
        instance_uid: SOP instance UID, empty where absent; all frames of a file have the same.
        body_part: BodyPartExamined, empty where absent.
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
    kernel: str = ""
    acquired: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    setting: tuple[str, ...] = ()
    frame: int | None = None
    instance_uid: str = ""
    body_part: str = ""


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


def open_slice_header(path: Path) -> Header:
    """Read what `slice_header` needs of one file; an ordinary file is opened once.

    Raises:
        ReadError: When the file is no DICOM, or its header is damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})") from error
    if plain := parse_plain_header(start):
        return plain
    if not _begins_like_dicom(start):
        raise ReadError(path, _why_foreign(path, not start))
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
        orientation=_orientation(header, path),
        pixel_spacing_mm=_geometry(header, path, "PixelSpacing", 2),
        instance_number=int(instance[0]) if instance and math.isfinite(instance[0]) else None,
        patient_id=text(header, "PatientID"),
        study_id=text(header, "StudyInstanceUID"),
        series_id=text(header, "SeriesInstanceUID"),
        has_rescale=text(header, "RescaleIntercept") != "",
        acquisition=(text(header, "AcquisitionNumber"), text(header, "TemporalPositionIdentifier")),
        kernel=words(header, "ConvolutionKernel"),
        acquired=tuple(text(header, tag) for tag in ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")),
        created=tuple(text(header, tag) for tag in ("ContentDate", "ContentTime")),
        setting=(
            *(words(header, tag) for tag in ("ImageType", "FilterType")),
            *(str(numbers(header, tag)) for tag in ("SliceThickness", "KVP")),
        ),
        instance_uid=text(header, "SOPInstanceUID"),
        body_part=text(header, "BodyPartExamined"),
    )


@lru_cache(maxsize=256)  # all slices of a series have the same
def plane_axes(values: tuple[float, ...]) -> tuple[float, ...] | None:
    """Make the six direction cosines of a slice perpendicular and of unit length; `None` where they are too far off.

    Headers round them to a few digits. The direction along a row stays, that along a column is turned.
    """
    across, down = np.reshape(np.asarray(values, np.float64), (2, 3))
    lengths = np.linalg.norm([across, down], axis=1)
    if np.abs(lengths - 1).max() > _CROOKED or abs(across @ down) > _CROOKED:
        return None
    across = across / lengths[0]
    down = down - (down @ across) * across
    return tuple(float(value) for value in (*across, *(down / np.linalg.norm(down))))


def _begins_like_dicom(start: bytes) -> bool:
    """Say whether a file begins like DICOM: "DICM" after a preamble, or a first element without one."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:
        return False
    group, element, length = struct.unpack("<HHL", start[:8])
    explicit = re.fullmatch(rb"[A-Z]{2}", start[4:6]) is not None
    return group in _FIRST_GROUPS and element < 0x0100 and (explicit or length < 0x0100)


def _why_foreign(path: Path, is_empty: bool) -> str:
    suffix = path.suffix.lower()
    if is_empty:
        return "empty file"
    if suffix in _DICOM_SUFFIXES:
        return f"not a DICOM file although named {suffix}"
    return f"not a CT format: {suffix}" if 1 < len(suffix) <= 8 else "not a CT format"


def _orientation(header: Header, path: Path) -> tuple[float, ...]:
    axes = plane_axes(_geometry(header, path, "ImageOrientationPatient", 6))
    if axes is None:
        raise ReadError(path, CROOKED_AXES)
    return axes


def _geometry(header: Header, path: Path, tag: str, count: int) -> tuple[float, ...]:
    values = numbers(header, tag)
    if len(values) != count or not all(abs(value) < 1e6 for value in values):
        raise ReadError(path, f"{tag} is missing or damaged, so the slice has no place in a volume")
    positive = tag in ("Rows", "Columns", "PixelSpacing")
    if positive and min(values) <= 0:
        raise ReadError(path, f"{tag} is not positive")
    return values
