"""What a DICOM header says of the body part; a hint only, since technicians choose it from a list in a hurry."""

from voco2d.errors import ReadError
from voco2d.io.dicom_elements import text
from voco2d.io.dicom_header import open_header
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.io.source import Source


def read_body_part(source: Source) -> str:
    """Return BodyPartExamined (0018,0015) of a series' middle file; empty where there is none or in other formats."""
    if source.kind != "dicom" or not source.files:
        return ""
    try:
        with quiet_pydicom():
            return text(open_header(source.files[len(source.files) // 2], ("BodyPartExamined",)), "BodyPartExamined")
    except (ReadError, OSError):
        return ""
