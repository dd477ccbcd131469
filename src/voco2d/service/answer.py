"""Grades a received study and writes its answer as DICOM objects."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from voco2d.inference.explain.explain_study import Explanations
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.predictor import Predictor
from voco2d.service.audit import digest_of
from voco2d.service.key_image import encapsulated_pdf, key_images
from voco2d.service.key_slices import find_key_slices, foremost
from voco2d.service.result_page import Origin, result_page
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import read_headers

RESULT_NAME = "result.json"
EXPLANATION_NAME = "explanation.json"
REPORT_NAME = "report.dcm"
REST_REMARK = "earlier images of the study were deleted after their answer; this is of those that came since"


def answer(
    predictor: Predictor,
    folder: Path,
    version: int,
    is_rest: bool = False,
    *,
    pdf: bool,
    explainer: Explainer | None = None,
) -> dict[str, bytes]:
    """Grade the study in a folder and write what is sent back.

    Args:
        predictor: Loaded once.
        folder: Images of one study.
        version: How often it grew after it was answered, from 1.
        is_rest: Whether images that came earlier were deleted after their answer; the answer then says so.
        pdf: Whether a page goes with the report.
        explainer: Of that predictor; without it the report names no key slices.

    Returns:
        File name → content: the answer and its explanation as JSON, the report, key images, the page.

    Raises:
        ReadError: There is nothing in the folder that could be graded, or images of several studies.
    """
    explanations = None if explainer is None else Explanations(explainer)
    result = predictor.predict(folder, None if explanations is None else explanations.look)
    if is_rest:
        series = [replace(entry, remarks=(*entry.remarks, REST_REMARK)) for entry in result.series]
        result = replace(result, series=tuple(series))
    chosen = foremost(result)
    files = read_headers(folder, result.series[chosen].series_id, version, is_rest)
    explained = None if explanations is None else explanations.of(result)
    key_slices = [] if explained is None else find_key_slices(explained.series[chosen], files)
    report = structured_report(result, files, key_slices, [runtime.sha256 for runtime in predictor.models.runtimes])
    written = {RESULT_NAME: result.to_json().encode(), REPORT_NAME: to_bytes(report)}
    if explained is not None:
        written[EXPLANATION_NAME] = explained.to_json().encode()
    for number, image in enumerate(key_images(files, key_slices, predictor.targets), start=1):
        written[f"key{number:02}.dcm"] = to_bytes(image)
    if pdf:
        now = datetime.now(UTC)
        stamp = (now.strftime("%Y%m%d"), now.strftime("%H%M%S"))
        networks = [(runtime.name, runtime.sha256) for runtime in predictor.models.runtimes]
        origin = Origin(networks, digest_of(files.study_uid), now.strftime("%Y-%m-%d %H:%M UTC"))
        written["page.dcm"] = to_bytes(encapsulated_pdf(files, result_page(result, origin), stamp, predictor.targets))
    return written


def to_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a DICOM file (PS3.10)."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
