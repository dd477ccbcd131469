"""Reads the headers of the slices a DICOM file holds: one, or the frames of an enhanced CT file (PS3.3 A.38)."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_elements import DAMAGED_FILE_ERRORS, numbers, text, words
from voco2d.io.dicom_header import CROOKED_AXES, SliceHeader, open_slice_header, plane_axes, slice_header
from voco2d.io.dicom_kinds import other_picture, refuse_other_images
from voco2d.io.source import Rejection

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes Enhanced CT and Legacy Converted Enhanced CT Image Storage."""

MAX_FRAMES = 20_000
_SETTLED_NS = 2_000_000_000
"""Of a file that changed a moment ago nothing is kept: its time of change is only told to some milliseconds."""

_GEOMETRY = {
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
}


def read_headers(path: Path) -> tuple[list[SliceHeader], list[Rejection]]:
    """Read the header of each slice in one file.

    Returns:
        One header, or those of the frames of an enhanced file in their order; and for each reason to leave frames out
        (localizers, projections) a rejection with their number.

    Raises:
        ReadError: As `slice_header`; when frames lack their functional groups (PS3.3 C.7.6.16); and when no frame is
            left.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})") from error
    changed_ns = state.st_ctime_ns  # which nobody can set, as copying programs do with the time of modification
    if time.time_ns() - changed_ns > _SETTLED_NS:
        header = kept_header(path, (changed_ns, state.st_mtime_ns, state.st_size, state.st_ino, state.st_dev))
    else:
        header = _single_header(path)
    return _read_frames(path) if header is None else ([header], [])


@lru_cache(maxsize=1024)
def kept_header(path: Path, _state: tuple[int, ...]) -> SliceHeader | None:
    """Keep the header of a file in this state for a while: a series is first found and then read, mostly at once."""
    return _single_header(path)


def _single_header(path: Path) -> SliceHeader | None:
    """Read the header of a file of one slice; `None` for an enhanced file."""
    header = open_slice_header(path)
    return None if text(header, "SOPClassUID") in ENHANCED_CT else slice_header(header, path)


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


def _read_frames(path: Path) -> tuple[list[SliceHeader], list[Rejection]]:
    try:
        with open_dicom(path, header_only=True) as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, "DICOM header damaged or cut short") from error
    refuse_other_images(dataset, path)
    count, rows, columns = (numbers(dataset, tag) for tag in ("NumberOfFrames", "Rows", "Columns"))
    if not (count and rows and columns and 1 <= count[0] <= MAX_FRAMES and min(rows[0], columns[0]) >= 1):
        raise ReadError(path, f"NumberOfFrames, Rows or Columns is missing, damaged or above {MAX_FRAMES} frames")
    frames = int(count[0])
    try:
        given = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        if given != frames:
            raise ReadError(path, f"{frames} frames are promised, {given} are described")
        kinds = [_kind(_groups(dataset, frame)) for frame in range(frames)]
        headers = [_frame_header(dataset, path, frame) for frame in range(frames) if kinds[frame] is None]
    except DAMAGED_FILE_ERRORS as error:
        raise ReadError(path, "functional groups of the frames are damaged") from error
    left_out = Counter(kind for kind in kinds if kind is not None)
    found = [header for header in headers if header is not None]
    if not headers:
        raise ReadError(path, left_out.most_common(1)[0][0])
    if len(found) < len(headers):
        share = f"{len(headers) - len(found)} of {frames} frames"
        raise ReadError(path, f"{share} lack position, orientation or pixel spacing")
    return found, [Rejection(str(path), f"{number} of {frames} frames: {kind}") for kind, number in left_out.items()]


def _kind(groups: Sequence[Dataset]) -> str | None:
    """Say why a frame is no slice of a volume, or `None`."""
    frame_type = _find(groups, "CTImageFrameTypeSequence")
    rescale = _find(groups, "PixelValueTransformationSequence")
    return other_picture(
        "" if frame_type is None else words(frame_type, "FrameType"),
        "" if frame_type is None else text(frame_type, "VolumeBasedCalculationTechnique"),
        "" if rescale is None else text(rescale, "RescaleType"),
    )


def _frame_header(dataset: FileDataset, path: Path, frame: int) -> SliceHeader | None:
    """Header of one frame; `None` where it has no place in a volume.

    Raises:
        ReadError: When its directions are damaged.
    """
    groups = _groups(dataset, frame)
    geometry: dict[str, tuple[float, ...]] = {}
    for tag, (sequence, count) in _GEOMETRY.items():
        group = _find(groups, sequence)
        values = () if group is None else numbers(group, tag)
        if len(values) != count or not all(abs(value) < 1e6 for value in values):
            return None
        geometry[tag] = values
    if min(geometry["PixelSpacing"]) <= 0:
        return None
    orientation = plane_axes(geometry["ImageOrientationPatient"])
    if orientation is None:
        raise ReadError(path, CROOKED_AXES)
    content = _find(groups, "FrameContentSequence")
    rescale = _find(groups, "PixelValueTransformationSequence")
    made = _find(groups, "CTReconstructionSequence")
    return SliceHeader(
        path=path,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position_mm=geometry["ImagePositionPatient"],
        orientation=orientation,
        pixel_spacing_mm=geometry["PixelSpacing"],
        instance_number=frame + 1,
        patient_id=text(dataset, "PatientID"),
        study_id=text(dataset, "StudyInstanceUID"),
        series_id=text(dataset, "SeriesInstanceUID"),
        has_rescale=rescale is not None and "RescaleIntercept" in rescale,
        acquisition=_acquisition(content),
        kernel="" if made is None else words(made, "ConvolutionKernel"),
        acquired=("" if content is None else text(content, "FrameAcquisitionDateTime"),),
        frame=frame,
        instance_uid=text(dataset, "SOPInstanceUID"),
        body_part=text(dataset, "BodyPartExamined"),
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
