"""Grades a received study and writes its answer as DICOM objects."""

import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from voco2d.errors import ReadError
from voco2d.inference.explain.explain_study import ExplainedStudy, Explanations
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.outcome import first_study
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import StudyResult
from voco2d.inference.runtime import Runtime
from voco2d.inference.series_grader import Look
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.logs import wordless
from voco2d.service.audit import digest_of
from voco2d.service.key_image import encapsulated_pdf, key_image
from voco2d.service.key_slices import find_key_slices
from voco2d.service.result_page import Origin, result_page
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import StudyFiles, read_headers
from voco2d.version import VERSION

RESULT_NAME = "result.json"
EXPLANATION_NAME = "explanation.json"
REPORT_NAME = "report.dcm"
_NOT_MISSED = ("not a slice of a volume", "secondary capture", "duplicate: another slice has the same position")
"""Words of reasons for which an image is left out that is no part of any volume, or in it already."""

REST_REMARK = "earlier images of the study were deleted after their answer; this is of those that came since"

_log = logging.getLogger(__name__)


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
        File name → content: the answer and its explanation as JSON, the report, key images, the page. A key image or
        page that can't be drawn is left out.

    Raises:
        ReadError: There is nothing in the folder that could be graded, or images of several studies.
    """
    explanations = None if explainer is None else Explanations(explainer)
    result, left_out = _graded(predictor, folder, None if explanations is None else explanations.look)
    remarks = (*([REST_REMARK] if is_rest else []), *([left_out] if left_out else []))
    if remarks:
        series = [replace(entry, remarks=(*entry.remarks, *remarks)) for entry in result.series]
        result = replace(result, series=tuple(series))
    explained = None if explanations is None else explanations.of(result)
    with quiet_pydicom():
        files = read_headers(folder, version, _maker(predictor, is_rest, explainer is not None))
        return _written(result, explained, files, predictor.models.runtimes, pdf)


def _graded(predictor: Predictor, folder: Path, look: Look | None) -> tuple[StudyResult, str]:
    """Grade a study; also say what of its images is in no series, empty where nobody would miss it.

    Raises:
        ReadError: There is no series, or series of several patients.
    """
    studies, rejections = predictor.predict_studies([folder], look)
    if len(studies) > 1:
        raise ReadError(folder, f"holds images of {len(studies)} patients or studies under one study UID")
    study = first_study(studies, rejections, folder)
    counts = Counter(rejection.reason for rejection in rejections)
    missed = {reason: count for reason, count in counts.items() if not any(words in reason for words in _NOT_MISSED)}
    if not missed:
        return study, ""
    told = "; ".join(f"{count}: {reason}" for reason, count in sorted(missed.items()))
    return study, f"images or series of the study that were not graded: {told}"


def _maker(predictor: Predictor, is_rest: bool, is_explained: bool) -> str:
    """Tell what an answer depends on besides its images, so that another one gets other UIDs."""
    networks = [runtime.sha256 for runtime in predictor.models.runtimes]
    settings = [predictor.gates, predictor.precision, predictor.test_flips, repr(predictor.scalers)]
    return json.dumps([VERSION, networks, settings, is_rest, is_explained])


def _written(
    result: StudyResult,
    explained: ExplainedStudy | None,
    files: StudyFiles,
    networks: Sequence[Runtime],
    pdf: bool,
) -> dict[str, bytes]:
    """Write an answer; what goes beside the report is left out where it can't be drawn."""
    key_slices = [] if explained is None else find_key_slices(explained, files)
    report = structured_report(result, files, key_slices, [runtime.sha256 for runtime in networks])
    written = {RESULT_NAME: result.to_json().encode(), REPORT_NAME: to_bytes(report)}
    if explained is not None:
        written[EXPLANATION_NAME] = explained.to_json().encode()
    for number, entry in enumerate((entry for entry in key_slices if entry.picture), start=1):
        drawn = partial(key_image, files, entry, number, result)
        written |= _tried(f"key{number:02}.dcm", drawn)
    if pdf:
        written |= _tried("page.dcm", partial(_page, result, files, networks))
    return written


def _tried(name: str, draw: Callable[[], Dataset]) -> dict[str, bytes]:
    """Write what goes beside a report, or nothing where that fails: the report is what counts."""
    try:
        return {name: to_bytes(draw())}
    except Exception as error:  # whatever a strange header makes a library raise
        _log.warning("%s is left out (%s); --verbose tells where it failed", name, type(error).__name__)
        _log.debug("%s", wordless(error))
        return {}


def _page(result: StudyResult, files: StudyFiles, networks: Sequence[Runtime]) -> Dataset:
    now = datetime.now(UTC)
    stamp = (now.strftime("%Y%m%d"), now.strftime("%H%M%S"))
    named = [(runtime.name, runtime.sha256) for runtime in networks]
    series = [files.series_number(entry.series_id) for entry in result.series]
    origin = Origin(named, digest_of(files.study_uid), now.strftime("%Y-%m-%d %H:%M UTC"), series)
    return encapsulated_pdf(files, result_page(result, origin), stamp, result.targets)


def to_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a DICOM file (PS3.10)."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
