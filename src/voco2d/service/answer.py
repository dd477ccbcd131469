"""Grades a received study and writes its answer as DICOM objects."""

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from voco2d.inference.predictor import Predictor
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.service.key_image import encapsulated_pdf, key_images
from voco2d.service.result_page import result_page
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import KeySlice, StudyFiles, read_headers

Explain = Callable[[Path, StudyResult, StudyFiles], Sequence[KeySlice]]
"""Finds the slices that speak for each target: folder of the images, answer, and the series it is about."""

RESULT_NAME = "result.json"
REPORT_NAME = "report.dcm"


def answer(
    predictor: Predictor, folder: Path, version: int, pdf: bool, explain: Explain | None = None
) -> dict[str, bytes]:
    """Grade the study in a folder and write what is sent back.

    Args:
        predictor: Loaded once.
        folder: Images of one study.
        version: How often it grew after it was answered, from 1.
        pdf: Whether a page goes with the report.
        explain: Finds key slices; without it the report names none.

    Returns:
        File name → content: the answer as JSON, the report, key images, the page.

    Raises:
        ReadError: There is nothing in the folder that could be graded, or images of several studies.
    """
    result = predictor.predict(folder)
    files = read_headers(folder, _foremost(result).series_id, version)
    key_slices = list(explain(folder, result, files)) if explain is not None and result.probabilities else []
    report = structured_report(result, files, key_slices, [runtime.sha256 for runtime in predictor.models.runtimes])
    written = {RESULT_NAME: result.to_json().encode(), REPORT_NAME: to_bytes(report)}
    for number, image in enumerate(key_images(files, key_slices), start=1):
        written[f"key{number:02}.dcm"] = to_bytes(image)
    if pdf:
        now = datetime.now(UTC)
        stamp = (now.strftime("%Y%m%d"), now.strftime("%H%M%S"))
        written["page.dcm"] = to_bytes(encapsulated_pdf(files, result_page(result), stamp))
    return written


def to_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a DICOM file (PS3.10)."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _foremost(result: StudyResult) -> SeriesResult:
    """Return the series that references point into: the first that was assessed, else the first."""
    return next((entry for entry in result.series if entry.is_assessed), result.series[0])
