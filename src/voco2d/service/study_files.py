"""The images of a received study, as far as answers refer to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from voco2d.errors import ReadError

_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes that every DICOM object of a study repeats, empty where nobody knows (PS3.3 C.7.1.1, C.7.2.1)."""


@dataclass(frozen=True)
class KeySlice:
    """A slice that speaks for a target.

    Args:
        target: Name of the target.
        instance: Its SOP instance UID.
        picture: PNG of the slice with its overlay, or empty.
        frame: Number of the frame from 1 where the instance has several.
    """

    target: str
    instance: str
    picture: bytes = b""
    frame: int | None = None


@dataclass(frozen=True)
class StudyFiles:
    """The headers of one series of a study.

    Args:
        headers: Of its images, without pixels; at least one.
        version: How often the study grew after it was answered, from 1; part of the UIDs of answers.
        is_rest: Whether images of the study that came earlier were deleted after their answer.
    """

    headers: Sequence[Dataset]
    version: int = 1
    is_rest: bool = False
    _by_uid: dict[str, Dataset] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_uid.update({str(header.SOPInstanceUID): header for header in self.headers})

    @property
    def first(self) -> Dataset:
        """The image whose patient and study answers repeat."""
        return self.headers[0]

    @property
    def study_uid(self) -> str:
        """Study instance UID."""
        return str(self.first.StudyInstanceUID)

    def __contains__(self, instance: str) -> bool:
        """Tell whether there is an image of that SOP instance UID."""
        return instance in self._by_uid

    def is_multiframe(self, instance: str) -> bool:
        """Tell whether an image has several frames.

        Raises:
            KeyError: It is not of this series.
        """
        return int(self.header(instance).get("NumberOfFrames") or 1) > 1

    def header(self, instance: str) -> Dataset:
        """Return the header of an image.

        Raises:
            KeyError: It is not of this series.
        """
        return self._by_uid[instance]

    def uid(self, what: str) -> str:
        """Return the UID of an answer: the same for the same study, version and `what`."""
        return generate_uid(prefix="2.25.", entropy_srcs=[self.study_uid, str(self.version), what])


def read_headers(folder: Path, series_id: str, version: int, is_rest: bool = False) -> StudyFiles:
    """Read the headers of a series from a folder that holds its study.

    Args:
        folder: DICOM files.
        series_id: Series instance UID; where no image has it, all images are taken.
        version: See `StudyFiles`.
        is_rest: See there.

    Raises:
        ReadError: There is no image.
    """
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
    series = [header for header in headers if str(header.get("SeriesInstanceUID", "")) == series_id] or headers
    if not series:
        raise ReadError(folder, "holds no image")
    for header in series:
        for name in _TYPE_2:
            if name not in header:
                setattr(header, name, "")
    series.sort(key=lambda header: (int(header.get("InstanceNumber") or 0), str(header.SOPInstanceUID)))
    return StudyFiles(series, version, is_rest)
