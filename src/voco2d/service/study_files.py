"""The images of a received study, as far as answers refer to them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from voco2d.errors import ReadError
from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_elements import numbers
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.service.study_header import mend_header


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
    """The headers of a study.

    Args:
        headers: Of its images, series after series, without pixels; at least one.
        version: How often the study grew after it was answered, from 1; part of the UIDs of answers.
        made_by: What else answers depend on (networks, settings), in any words; part of their UIDs too.
    """

    headers: Sequence[Dataset]
    version: int = 1
    made_by: str = ""
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

    def of_series(self, series_id: str) -> list[Dataset]:
        """Return the headers of a series; of a series read as several stacks, `UID-1` and so on, those of all."""
        uid = series_id.partition("-")[0]
        return [header for header in self.headers if str(header.get("SeriesInstanceUID", "")) == uid]

    def series_number(self, series_id: str) -> str:
        """Return the number of a series, as those who look at the study see it; empty where it has none."""
        found = [numbers(header, "SeriesNumber") for header in self.of_series(series_id)[:1]]
        return f"{found[0][0]:.0f}" if found and found[0] else ""

    def __contains__(self, instance: str) -> bool:
        """Tell whether there is an image of that SOP instance UID."""
        return instance in self._by_uid

    def is_multiframe(self, instance: str) -> bool:
        """Tell whether an image has several frames.

        Raises:
            KeyError: It is not of this study.
        """
        return numbers(self.header(instance), "NumberOfFrames")[:1] > (1,)

    def header(self, instance: str) -> Dataset:
        """Return the header of an image.

        Raises:
            KeyError: It is not of this study.
        """
        return self._by_uid[instance]

    def uid(self, what: str) -> str:
        """Return the UID of an answer: the same for the same images, version, maker and `what` (PS3.5, 9)."""
        instances = "\n".join(sorted(self._by_uid))
        sources = [
            self.study_uid,
            str(self.version),
            hashlib.sha256(instances.encode()).hexdigest(),
            self.made_by,
            what,
        ]
        return generate_uid(prefix="2.25.", entropy_srcs=sources)


def read_headers(folder: Path, version: int, made_by: str = "") -> StudyFiles:
    """Read the headers of a study, fit to be repeated by answers.

    Args:
        folder: DICOM files of one study.
        version: See `StudyFiles`.
        made_by: See there.

    Raises:
        ReadError: There is no image.
    """
    with quiet_pydicom():
        headers = [_read_header(path) for path in sorted(folder.iterdir())]
        if not headers:
            raise ReadError(folder, "holds no image")
        for header in headers:
            mend_header(header)
        headers.sort(key=_place)
    return StudyFiles(headers, version, made_by)


def _read_header(path: Path) -> Dataset:
    with open_dicom(path, header_only=True) as file:  # of a deflated file no more is unpacked than a header may take
        return dcmread(file, stop_before_pixels=True, force=True)


def _place(header: Dataset) -> tuple[str, tuple[float, ...], str]:
    return str(header.get("SeriesInstanceUID", "")), numbers(header, "InstanceNumber"), str(header.SOPInstanceUID)
