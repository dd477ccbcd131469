"""Writes an answer as a Comprehensive 3D SR by TID 1500 Measurement Report (DICOM PS3.16).

Injuries are coded by SNOMED CT. What other targets are called is the user's: their names and classes become codes of a
private scheme, without a site.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from voco2d.extras import require
from voco2d.inference.results import NOTICE, StudyResult
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.targets import Target
from voco2d.version import VERSION

if TYPE_CHECKING:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations

SERIES_NUMBER: Final = 9301
MANUFACTURER: Final = "voco2d"
SCHEME: Final = "99VOCO2D"
"""Of codes that no standard scheme has."""

_PURPOSE = "a structured report"
_INJURY = Code("417746004", "SCT", "Traumatic injury")
_BLEEDING = Code("50960005", "SCT", "Hemorrhage")
_SITES: Mapping[str, Code] = {
    "bowel": Code("113276009", "SCT", "Intestine"),
    "extravasation": Code("818981001", "SCT", "Abdomen"),
    "kidney": Code("64033007", "SCT", "Kidney"),
    "liver": Code("10200004", "SCT", "Liver"),
    "spleen": Code("78961009", "SCT", "Spleen"),
}
_GRADES: Mapping[str, Code] = {
    "low": Code("62482003", "SCT", "Low"),
    "high": Code("75540009", "SCT", "High"),
}
_SEVERITY = Code("246112005", "SCT", "Severity")
_PROBABILITY = Code("122157", "DCM", "Probability")
_NO_UNIT = Code("1", "UCUM", "no units")
_ENDS = (Code("255605001", "SCT", "Minimum"), Code("56851009", "SCT", "Maximum"))
_NOT_ASSESSED = Code("not-assessed", SCHEME, "Not assessed by algorithm")
_CAUSE = Code("cause", SCHEME, "Cause")
_CLASS = Code("class", SCHEME, "Class")
_REMARK = Code("remark", SCHEME, "Remark")
_REST = Code("images-deleted", SCHEME, "Earlier images were deleted; this is of those that came since")
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64
"""Characters of a code value (SH) and of its meaning (LO)."""


def structured_report(
    result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice], models: Sequence[str]
) -> Dataset:
    """Write an answer as a structured report of the same study.

    It has a group a class other than the first, or a group every class of multiclass targets that are not RSNA's: what
    was looked for (finding type, site, severity), its probability with the lowest and highest of several networks, and
    the key slices. A study that was not assessed has one group that says so and names the gates. Each group says where
    earlier images of the study were deleted and not graded with these.

    Args:
        result: The answer.
        files: The series it is about.
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
    if result.probabilities is None:
        groups = [_refusal(sr, result, files, algorithm)]
    else:
        groups = list(_findings(sr, result, files, key_slices, algorithm))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(sr, files)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    named = {entry.instance for entry in key_slices}
    evidence = [header for header in files.headers if str(header.SOPInstanceUID) in named] or [files.first]
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
    )
    return document


def _observer(sr: Any, files: StudyFiles) -> Any:
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=files.uid("observer"), name="voco2d", manufacturer_name=MANUFACTURER, model_name=f"voco2d {VERSION}"
        ),
    )


def _findings(
    sr: Any, result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice], algorithm: Any
) -> "Iterator[MeasurementsAndQualitativeEvaluations]":
    probabilities, intervals = result.probabilities or {}, result.intervals or {}
    rsna = result.targets.is_rsna
    for target in result.targets.values():
        images = [_image(sr, files, entry.instance, entry.frame) for entry in key_slices if entry.target == target.name]
        first = 0 if target.kind == "multiclass" and not rsna else 1
        for grade, column in list(zip(target.classes, target.columns, strict=True))[first:]:
            measurements = [_probability(sr, probabilities[column])]
            for kind, end in zip(_ENDS, intervals.get(column, ()), strict=False):
                measurements.append(_probability(sr, end, kind))
            finding, site, kind_of = _coded(target, grade) if rsna else (_private(target.name), None, _private(grade))
            name = _SEVERITY if rsna else _CLASS
            evaluations = [] if kind_of is None else [sr.QualitativeEvaluation(name, kind_of)]
            evaluations += _remarks(sr, files)
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(uid=files.uid(column), identifier=column),
                finding_type=finding,
                finding_sites=None if site is None else [sr.FindingSite(site)],
                algorithm_id=algorithm,
                measurements=measurements,
                qualitative_evaluations=evaluations or None,
                source_images=images or None,
            )


def _coded(target: Target, grade: str) -> tuple[Code, Code, Code | None]:
    """Return finding, site and severity of a class of RSNA's."""
    finding = _BLEEDING if target.name == "extravasation" else _INJURY
    return finding, _SITES[target.name], _GRADES.get(grade)


def _private(name: str) -> Code:
    """Code a name of the user's; one that is too long for a value is told apart by its digest."""
    value = name if len(name) <= _LONGEST_VALUE else blake2b(name.encode(), digest_size=8).hexdigest()
    return Code(value, SCHEME, name.replace("_", " ")[:_LONGEST_MEANING])


def _refusal(sr: Any, result: StudyResult, files: StudyFiles, algorithm: Any) -> Any:
    gates = sorted({finding.gate for entry in result.series for finding in entry.findings if finding.refuses})
    causes = gates or ["unreadable"]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=files.uid("not assessed"), identifier="not assessed"),
        finding_type=_NOT_ASSESSED,
        algorithm_id=algorithm,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_CAUSE, Code(gate.replace("_", "-")[:16], SCHEME, gate.replace("_", " ")[:64]))
            for gate in causes
        ]
        + _remarks(sr, files),
        source_images=[_image(sr, files, str(files.first.SOPInstanceUID))],
    )


def _remarks(sr: Any, files: StudyFiles) -> list[Any]:
    return [sr.QualitativeEvaluation(_REMARK, _REST)] if files.is_rest else []


def _probability(sr: Any, value: float, derivation: Code | None = None) -> Any:
    return sr.Measurement(name=_PROBABILITY, value=round(float(value), 6), unit=_NO_UNIT, derivation=derivation)


def _image(sr: Any, files: StudyFiles, instance: str, frame: int | None = None) -> Any:
    header = files.header(instance)
    frames = None if frame is None else [frame]
    return sr.SourceImageForMeasurementGroup(str(header.SOPClassUID), instance, frames)
