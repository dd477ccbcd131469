"""The groups of a structured report (DICOM PS3.16, TID 1501): one a class with its probability, one a refused series.

Injuries are coded by SNOMED CT. What other targets are called is the user's: their names and classes become codes of a
private scheme, without a site.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.service.caveats import calibration, caveats
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.targets import Target

if TYPE_CHECKING:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations

SCHEME: Final = "99VOCO2D"
"""Of codes that no standard scheme has."""

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
_CALIBRATION = Code("calibration", SCHEME, "Calibration of probabilities")
_CHECKS = Code("checks", SCHEME, "Checks of the scan")
_NOTHING_FOUND = Code("nothing-found", SCHEME, "Nothing found")
_REMARKS = Code("remarks", SCHEME, "Remarks, see comment")
_OVERRULED = Code("overruled", SCHEME, "Against assessment, but overruled, see comment")
_NOT_CHECKED = Code("not-checked", SCHEME, "Not checked")
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64
"""Characters of a code value (SH) and of its meaning (LO)."""


def report_groups(
    sr: Any, result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice], algorithm: Any
) -> "Iterator[MeasurementsAndQualitativeEvaluations]":
    """Write the groups of a report, see `voco2d.service.structured_report.structured_report`.

    Args:
        sr: The module `highdicom.sr`.
        result: The answer.
        files: The study it is about.
        key_slices: Of `files`.
        algorithm: Its identification, `highdicom.sr.AlgorithmIdentification`.
    """
    told = caveats(result, [files.series_number(entry.series_id) for entry in result.series])
    comment = "; ".join(dict.fromkeys(text for text in told if text))
    if result.probabilities is not None:
        for group in _findings(sr, result, files, key_slices, algorithm):
            yield _commented(sr, group, comment)
    for place, entry in enumerate(result.series):
        if not entry.is_assessed:
            yield _commented(sr, _refusal(sr, entry, place, files, algorithm), told[place])


def _findings(
    sr: Any, result: StudyResult, files: StudyFiles, key_slices: Sequence[KeySlice], algorithm: Any
) -> "Iterator[MeasurementsAndQualitativeEvaluations]":
    probabilities, intervals = result.probabilities or {}, result.intervals or {}
    rsna = result.targets.is_rsna
    beside = {_CALIBRATION: _private(calibration(result).replace(" ", "_")), _CHECKS: _checks(result)}
    for target in result.targets.values():
        images = [_image(sr, files, entry.instance, entry.frame) for entry in key_slices if entry.target == target.name]
        first = 0 if target.kind == "multiclass" and not rsna else 1
        for grade, column in list(zip(target.classes, target.columns, strict=True))[first:]:
            measurements = [_probability(sr, probabilities[column])]
            for kind, end in zip(_ENDS, intervals.get(column, ()), strict=False):
                measurements.append(_probability(sr, end, kind))
            finding, site, kind_of = _coded(target, grade) if rsna else (_private(target.name), None, _private(grade))
            own = {} if kind_of is None else {_SEVERITY if rsna else _CLASS: kind_of}
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(uid=files.uid(column), identifier=column),
                finding_type=finding,
                finding_sites=None if site is None else [sr.FindingSite(site)],
                algorithm_id=algorithm,
                measurements=measurements,
                qualitative_evaluations=[sr.QualitativeEvaluation(*pair) for pair in (own | beside).items()],
                source_images=images or None,
            )


def _checks(result: StudyResult) -> Code:
    """Code what the gates found of the series that the numbers are of, the gravest first."""
    assessed = [entry for entry in result.series if entry.is_assessed]
    if any(entry.gates == "off" for entry in assessed):
        return _NOT_CHECKED
    if any(finding.refuses for entry in assessed for finding in entry.findings):
        return _OVERRULED
    return _REMARKS if any(entry.findings or entry.remarks for entry in assessed) else _NOTHING_FOUND


def _commented(sr: Any, group: Any, comment: str) -> Any:
    """Add a text to a group: TID 1501 is extensible, and gates tell more than codes can."""
    if comment:
        text = sr.TextContentItem(
            name=codes.DCM.Comment, value=comment, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(text)
    return group


def _coded(target: Target, grade: str) -> tuple[Code, Code, Code | None]:
    """Return finding, site and severity of a class of RSNA's."""
    finding = _BLEEDING if target.name == "extravasation" else _INJURY
    return finding, _SITES[target.name], _GRADES.get(grade)


def _private(name: str) -> Code:
    """Code a name of the user's; one that is too long for a value is told apart by its digest."""
    value = name if len(name) <= _LONGEST_VALUE else blake2b(name.encode(), digest_size=8).hexdigest()
    return Code(value, SCHEME, name.replace("_", " ")[:_LONGEST_MEANING])


def _refusal(sr: Any, entry: SeriesResult, place: int, files: StudyFiles, algorithm: Any) -> Any:
    """Say of a series that it was not assessed, by which gates, and by its first image which one it is."""
    causes = sorted({finding.gate for finding in entry.findings if finding.refuses}) or ["unreadable"]
    name = f"not assessed, series {place + 1}"
    images = [_image(sr, files, str(header.SOPInstanceUID)) for header in files.of_series(entry.series_id)[:1]]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=files.uid(name), identifier=name),
        finding_type=_NOT_ASSESSED,
        algorithm_id=algorithm,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_CAUSE, Code(gate.replace("_", "-")[:16], SCHEME, gate.replace("_", " ")[:64]))
            for gate in causes
        ],
        source_images=images or None,
    )


def _probability(sr: Any, value: float, derivation: Code | None = None) -> Any:
    return sr.Measurement(name=_PROBABILITY, value=round(float(value), 6), unit=_NO_UNIT, derivation=derivation)


def _image(sr: Any, files: StudyFiles, instance: str, frame: int | None = None) -> Any:
    header = files.header(instance)
    frames = None if frame is None else [frame]
    return sr.SourceImageForMeasurementGroup(str(header.SOPClassUID), instance, frames)
