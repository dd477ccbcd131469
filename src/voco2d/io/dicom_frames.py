"""Reads the headers of the slices a DICOM file holds: one, or the frames of an enhanced CT file (PS3.3 A.38)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_header import (
    DAMAGED_FILE_ERRORS,
    SliceHeader,
    numbers,
    open_slice_header,
    refuse_other_images,
    slice_header,
    text,
)

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes Enhanced CT and Legacy Converted Enhanced CT Image Storage."""

MAX_FRAMES = 20_000
_GEOMETRY = {
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
}


def read_headers(path: Path) -> list[SliceHeader]:
    """Read the header of each slice in one file.

    Returns:
        One header, or those of all frames of an enhanced file in their order.

    Raises:
        ReadError: As `slice_header`; and when frames lack their functional groups (PS3.3 C.7.6.16).
    """
    header = open_slice_header(path)
    return _read_frames(path) if text(header, "SOPClassUID") in ENHANCED_CT else [slice_header(header, path)]


def frame_rescale(dataset: Dataset, frame: int) -> tuple[float, float]:
    """Slope and intercept of one frame of an enhanced file, from its pixel value transformation (PS3.3 C.7.6.16.2.9).

    Raises:
        ValueError: They are stored but are no finite numbers.
    """
    groups = _groups(dataset, frame)
    found = _find(groups, "PixelValueTransformationSequence")
    values = [
        default if found is None or found.get(tag) in (None, "") else float(found[tag].value)
        for tag, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    ]
    if not all(math.isfinite(value) for value in values):
        raise ValueError("the rescale of the frame is not finite")
    return values[0], values[1]


def _read_frames(path: Path) -> list[SliceHeader]:
    try:
        with open_dicom(path, header_only=True) as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, "DICOM header damaged or cut short") from error
    refuse_other_images(dataset, path)
    count, rows, columns = (numbers(dataset, tag) for tag in ("NumberOfFrames", "Rows", "Columns"))
    if not (count and rows and columns and 1 <= count[0] <= MAX_FRAMES and min(rows[0], columns[0]) >= 1):
        raise ReadError(path, f"NumberOfFrames, Rows or Columns is missing, damaged or above {MAX_FRAMES} frames")
    try:
        given = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        if given < count[0]:
            raise ReadError(path, f"{int(count[0])} frames are promised, {given} are described")
        headers = [_frame_header(dataset, path, frame) for frame in range(int(count[0]))]
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, "functional groups of the frames are damaged") from error
    found = [header for header in headers if header is not None]
    if len(found) < len(headers):
        share = f"{len(headers) - len(found)} of {len(headers)} frames"
        raise ReadError(path, f"{share} are localizers or lack position, orientation or pixel spacing")
    return found


def _frame_header(dataset: FileDataset, path: Path, frame: int) -> SliceHeader | None:
    """Header of one frame; `None` where it is a localizer or has no place in a volume."""
    groups = _groups(dataset, frame)
    kind = _find(groups, "CTImageFrameTypeSequence")
    if kind is not None and "LOCALIZER" in str(kind.get("FrameType", "")).upper():
        return None
    geometry: dict[str, tuple[float, ...]] = {}
    for tag, (sequence, count) in _GEOMETRY.items():
        group = _find(groups, sequence)
        values = () if group is None else numbers(group, tag)
        if len(values) != count or not all(abs(value) < 1e6 for value in values):
            return None
        geometry[tag] = values
    if min(geometry["PixelSpacing"]) <= 0:
        return None
    content = _find(groups, "FrameContentSequence")
    rescale = _find(groups, "PixelValueTransformationSequence")
    return SliceHeader(
        path=path,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position_mm=geometry["ImagePositionPatient"],
        orientation=geometry["ImageOrientationPatient"],
        pixel_spacing_mm=geometry["PixelSpacing"],
        instance_number=frame + 1,
        patient_id=text(dataset, "PatientID"),
        study_id=text(dataset, "StudyInstanceUID"),
        series_id=text(dataset, "SeriesInstanceUID"),
        has_rescale=rescale is not None and "RescaleIntercept" in rescale,
        acquisition=_acquisition(content),
        frame=frame,
    )


def _acquisition(content: Dataset | None) -> tuple[str, str]:
    if content is None:
        return "", ""
    stack = [str(content.get(tag) or "") for tag in ("StackID", "FrameAcquisitionNumber")]
    return "/".join(stack), str(content.get("TemporalPositionIndex", "") or "")


def _groups(dataset: Dataset, frame: int) -> Sequence[Dataset]:
    """Functional groups of a frame, its own before the shared ones."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared: Any = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*own[frame : frame + 1], *shared[:1]]


def _find(groups: Sequence[Dataset], sequence: str) -> Dataset | None:
    """First item of a sequence in the first group that has it."""
    for group in groups:
        items = group.get(sequence)
        if items:
            found: Dataset = items[0]
            return found
    return None
