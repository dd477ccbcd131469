"""Writes an answer as a Comprehensive 3D SR by TID 1500 Measurement Report (DICOM PS3.16)."""

from collections.abc import Sequence
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from voco2d.extras import require
from voco2d.inference.results import NOTICE, StudyResult
from voco2d.service.report_groups import report_groups
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.service.study_header import copy_character_set
from voco2d.version import VERSION

SERIES_NUMBER: Final = 9301
MANUFACTURER: Final = "voco2d"

_PURPOSE = "a structured report"


def structured_report(
    result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice], models: Sequence[str]
) -> Dataset:
    """Write an answer as a structured report of the same study.

    It has a group a class other than the first, or a group every class of multiclass targets that are not RSNA's: what
    was looked for (finding type, site, severity), its probability with the lowest and highest of several networks,
    whether that is calibrated, what the checks of the scan found, and the key slices. Each series that was not assessed
    has a group that says so and names the gates.

    Args:
        result: The answer.
        files: The study it is about.
        key_slices: Of `files`.
        models: SHA-256 of each network, for the identification of the algorithm.

    Returns:
        A data set with file meta information, ready to be sent or saved.

    Raises:
        UsageError: highdicom is missing.
    """
    sr = require("highdicom.sr", "dicom", _PURPOSE)
    algorithm = sr.AlgorithmIdentification(
        name="voco2d",
        version=VERSION,
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
        parameters=[NOTICE, *(f"model sha256 {digest}" for digest in models)],
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(sr, files)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=list(report_groups(sr, result, files, key_slices, algorithm)),
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = _evidence(result, files, key_slices)
    document: Dataset = sr.Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=files.uid("structured report series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=files.uid("structured report"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=f"voco2d {VERSION}, research use only",
        record_evidence=False,
        specific_character_set=None,
    )
    copy_character_set(evidence[0], document)
    return document


def _evidence(result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice]) -> list[Dataset]:
    """List the images that the report refers to, and the first one of every series that it does not refer to."""
    named = {entry.instance for entry in key_slices}
    for entry in result.series:
        images = [str(header.SOPInstanceUID) for header in files.of_series(entry.series_id)]
        if not entry.is_assessed or named.isdisjoint(images):
            named.update(images[:1])
    return [header for header in files.headers if str(header.SOPInstanceUID) in named] or [files.first]


def _observer(sr: Any, files: StudyFiles) -> Any:
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=files.uid("observer"), name="voco2d", manufacturer_name=MANUFACTURER, model_name=f"voco2d {VERSION}"
        ),
    )
