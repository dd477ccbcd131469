import io
import shutil
import subprocess
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from highdicom.sr import srread
from PIL import Image
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from voco2d.evaluation.scaling import Scaler
from voco2d.inference.results import NOTICE, Finding, SeriesResult, StudyResult
from voco2d.service.answer import to_bytes
from voco2d.service.key_image import encapsulated_pdf, key_image
from voco2d.service.result_page import Origin, _foot, _reasons, result_page
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import KeySlice, read_headers
from voco2d.target_block import parse_targets
from voco2d.targets import RSNA_2023, TARGETS

PROBABILITY = "122157"
POSITIVE = [column for target in TARGETS.values() for column in target.columns[1:]]


@pytest.fixture
def files(hospital_study):
    return read_headers(hospital_study, 1)


def _values(group):
    """Derivation or nothing → value of each probability of a group."""
    found = {}
    for measurement in group.get_measurements():
        assert measurement.name.value == PROBABILITY
        derivation = measurement.derivation
        found[derivation.meaning if derivation is not None else ""] = measurement.value
    return found


def test_the_report_read_back_holds_every_class_with_its_probability_range_site_and_grade(make_result, files, tmp_path):
    result = make_result(folds=3)
    (tmp_path / "sr.dcm").write_bytes(to_bytes(structured_report(result, files, [], ["ab" * 32])))
    report = srread(tmp_path / "sr.dcm")
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.StudyInstanceUID == files.study_uid
    assert (report.PatientID, report.PatientName) == (files.first.PatientID, files.first.PatientName)
    groups = {group.tracking_identifier: group for group in report.content.get_image_measurement_groups()}
    assert sorted(groups) == sorted(POSITIVE)
    for column, group in groups.items():
        values = _values(group)
        assert values[""] == pytest.approx(result.probabilities[column], abs=1e-6)
        assert (values["Minimum"], values["Maximum"]) == pytest.approx(result.intervals[column], abs=1e-6)
    liver = groups["liver_high"]
    assert liver.finding_type.meaning == "Traumatic injury"
    assert liver.finding_sites[0].value.meaning == "Liver"
    graded = {item.name.meaning: item.value.meaning for item in liver.get_qualitative_evaluations()}
    assert graded["Severity"] == "High"
    assert groups["extravasation_injury"].finding_type.meaning == "Hemorrhage"


def test_the_algorithm_is_identified_and_says_what_it_is_for(make_result, files):
    report = structured_report(make_result(), files, [], ["ab" * 32])
    texts = {str(item.value) for item in report.iterall() if item.keyword in ("TextValue", "CodeMeaning")}
    assert {"voco2d", "Artificial Intelligence", NOTICE, f"model sha256 {'ab' * 32}"} <= texts


def test_key_slices_are_referred_to_by_their_target_alone(make_result, files):
    chosen = str(files.headers[3].SOPInstanceUID)
    report = structured_report(make_result(), files, [KeySlice("spleen", chosen)], [])
    assert [item.ReferencedSOPInstanceUID for item in _references(report)] == [chosen] * 2  # of low and of high
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [chosen]


def test_a_refused_study_has_no_number_and_names_the_gate(make_result, files):
    report = structured_report(make_result(refused="not_abdomen"), files, [], [])
    text = str(report)
    assert "Not assessed by algorithm" in text
    assert "not abdomen" in text
    assert "NUM" not in [item.value for item in report.iterall() if item.keyword == "ValueType"]


def test_the_same_answer_has_the_same_uids_and_a_grown_study_others(make_result, hospital_study, files):
    again = read_headers(hospital_study, 1)
    grown = read_headers(hospital_study, 2)
    uids = [structured_report(make_result(), those, [], []).SOPInstanceUID for those in (files, again, grown)]
    assert uids[0] == uids[1] != uids[2]


def test_a_key_image_shows_the_picture_in_the_study(make_result, files):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[5:9, 7:11] = (255, 0, 0)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    chosen = str(files.headers[0].SOPInstanceUID)
    image = key_image(files, KeySlice("liver", chosen, png.getvalue()), 1, make_result())
    back = dcmread(io.BytesIO(to_bytes(image)))
    np.testing.assert_array_equal(back.pixel_array, pixels)
    assert back.StudyInstanceUID == files.study_uid
    assert "research use only" in back.SeriesDescription


def test_the_page_is_a_pdf_that_names_nobody(make_result, files):
    page = result_page(make_result())
    assert page.startswith(b"%PDF")
    assert page == result_page(make_result())
    assert str(files.first.PatientID).encode() not in page
    told = _foot(make_result(), Origin([("fold_0", "ab" * 32)], "d" * 24, "2026-01-01 12:00 UTC"))
    assert told[0].startswith("Any injury: 0.")
    assert told[-3:] == [
        "Graded 2026-01-01 12:00 UTC",
        f"Study {'d' * 24} (digest of its UID)",
        f"Network fold_0, SHA-256 {'ab' * 32}",
    ]
    assert "and 2 more" in _foot(make_result(), Origin([("fold", "ab")] * 12))[-1]
    back = dcmread(io.BytesIO(to_bytes(encapsulated_pdf(files, page, ("20260101", "120000"), RSNA_2023))))
    assert back.EncapsulatedDocument[: back.EncapsulatedDocumentLength] == page


@pytest.mark.parametrize("rsna", [True, False])
def test_words_of_objects_fit_what_is_graded(make_result, files, rsna):
    targets = RSNA_2023 if rsna else parse_targets({"Mass": {"kind": "binary", "classes": ["absent", "present"]}})
    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(png, format="PNG")
    image = key_image(
        files,
        KeySlice("Mass", str(files.headers[0].SOPInstanceUID), png.getvalue()),
        1,
        replace(make_result(), targets=targets),
    )
    page = encapsulated_pdf(files, b"%PDF", ("20260101", "120000"), targets)
    assert ("injury" in image.ImageComments) == rsna
    assert ("trauma" in page.DocumentTitle) == rsna
    assert "research use only" in image.ImageComments


REMARK = Finding("not_abdomen", "the body part was not checked", refuses=False)
HEAD = Finding("not_abdomen", "not an abdomen: 0 mm look like an abdomen", refuses=True)


def _with(result, *more, **changes):
    """Change the series of an answer; with more series behind it."""
    (series,) = result.series
    return replace(result, series=(replace(series, **changes), *more))


def _evaluations(group):
    return {item.name.meaning: item.value.meaning for item in group.get_qualitative_evaluations()}


def _comments(group):
    return [item.TextValue for item in group[0].ContentSequence if item.name == codes.DCM.Comment]


@pytest.mark.parametrize(
    ("changes", "checks", "comment"),
    [
        ({}, "Nothing found", []),
        ({"findings": (REMARK,)}, "Remarks, see comment", ["remark: the body part was not checked"]),
        ({"remarks": ("no box of organs",)}, "Remarks, see comment", ["remark: no box of organs"]),
        (
            {"gates": "flag", "findings": (HEAD, REMARK)},
            "Against assessment, but overruled, see comment",
            [f"gates=flag; {HEAD.text}; remark: {REMARK.text}"],
        ),
        ({"gates": "flag"}, "Nothing found", ["gates=flag"]),
        ({"gates": "off"}, "Not checked", ["gates=off: nothing was checked"]),
    ],
)
def test_numbers_come_with_what_the_checks_of_the_scan_found(make_result, files, tmp_path, changes, checks, comment):
    result = _with(make_result(), **changes)
    (tmp_path / "sr.dcm").write_bytes(to_bytes(structured_report(result, files, [], [])))
    groups = srread(tmp_path / "sr.dcm").content.get_image_measurement_groups()
    assert len(groups) == len(POSITIVE)
    for group in groups:
        assert _evaluations(group)["Checks of the scan"] == checks
        assert _comments(group) == comment
    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(png, format="PNG")
    image = key_image(files, KeySlice("liver", str(files.headers[0].SOPInstanceUID), png.getvalue()), 1, result)
    assert image.ImageComments.partition("research use only")[2] == "".join(f"; {text}" for text in comment)
    assert _reasons(result, Origin()) == [line for text in comment for line in textwrap.wrap(text, 95)]


@pytest.mark.parametrize("calibrated", [False, True])
def test_numbers_say_whether_they_are_calibrated(make_result, files, calibrated):
    scalers = (
        {name: Scaler(2.0, (1.0,) * len(target.classes)) for name, target in TARGETS.items()} if calibrated else None
    )
    report = structured_report(replace(make_result(), scalers=scalers), files, [], [])
    for group in srread(io.BytesIO(to_bytes(report))).content.get_image_measurement_groups():
        told = _evaluations(group)["Calibration of probabilities"]
        assert told == ("calibrated" if calibrated else "not calibrated")


@pytest.fixture
def two_series(hospital_study, tmp_path):
    """Split the study in two series, 1.2 and 1.3, of which one has the number 7; return their headers."""
    for number, path in enumerate(sorted(hospital_study.iterdir())):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesNumber = ("1.2", None) if number % 2 else ("1.3", "7")
        dataset.save_as(tmp_path / path.name)
    return read_headers(tmp_path, 1)


def _two(make_result, first="1.2", second="1.3"):
    """Make the answer of two series, of which the second was refused and the first has a remark."""
    refused = replace(make_result(refused="not_abdomen").series[0], series_id=second)
    return _with(make_result(), refused, series_id=first, findings=(REMARK,))


def test_a_series_that_was_refused_is_told_beside_the_numbers_and_by_itself(make_result, two_series):
    report = structured_report(_two(make_result), two_series, [], [])
    *found, refused = srread(io.BytesIO(to_bytes(report))).content.get_image_measurement_groups()
    told = [
        f"series 1 of 2, assessed: remark: {REMARK.text}",
        "series 2 of 2 (number 7), not assessed: shows a head",
    ]
    assert {_comments(group)[0] for group in found} == {"; ".join(told)}
    assert _comments(refused) == told[1:]
    assert refused.finding_type.meaning == "Not assessed by algorithm"
    assert _evaluations(refused)["Cause"] == "not abdomen"
    assert not refused.get_measurements()
    (source,) = refused.source_images
    assert source.referenced_sop_instance_uid == two_series.of_series("1.3")[0].SOPInstanceUID
    assert _reasons(_two(make_result), Origin(series=["", "7"])) == told[::-1]  # the refused one first


def test_stacks_of_one_series_may_be_assessed_and_refused(make_result, two_series):
    key = KeySlice("liver", str(two_series.of_series("1.2")[-1].SOPInstanceUID))
    report = structured_report(_two(make_result, "1.2-1", "1.2-2"), two_series, [key], [])
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    ends = [two_series.of_series("1.2")[place].SOPInstanceUID for place in (0, -1)]
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == ends


def test_reasons_that_are_too_many_for_the_page_say_so(make_result):
    result = _with(make_result(), findings=(replace(REMARK, text="long words " * 100),))
    lines = _reasons(result, Origin())
    assert len(lines) == 8
    assert lines[-1] == "and more, which the report holds"


def test_what_is_said_of_all_series_and_refused_ones_come_first_on_the_page(make_result):
    assessed = replace(make_result().series[0], findings=(replace(REMARK, text="long words " * 100),))
    refused = make_result(refused="not_abdomen").series[0]
    series = tuple(replace(entry, remarks=("earlier images were deleted",)) for entry in (assessed, refused))
    lines = _reasons(replace(make_result(), series=series), Origin())
    assert lines[0] == "All series: earlier images were deleted"
    assert lines[1].startswith("series 2 of 2, not assessed")


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_error_in_anything_that_is_sent(make_result, files, two_series, tmp_path):
    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(png, format="PNG")
    slices = [KeySlice(name, str(files.headers[2].SOPInstanceUID), png.getvalue()) for name in TARGETS]
    objects = {
        "assessed": structured_report(make_result(), files, slices, ["ab" * 32]),
        "one network": structured_report(make_result(folds=1), files, [], ["ab" * 32]),
        "refused": structured_report(make_result(refused="not_abdomen"), files, [], []),
        "overruled": structured_report(_with(make_result(), gates="flag", findings=(HEAD, REMARK)), files, slices, []),
        "one refused": structured_report(_two(make_result), two_series, [], []),
        "overruled key": key_image(files, slices[0], 1, _with(make_result(), gates="flag", findings=(HEAD,))),
        "key": key_image(files, slices[0], 1, make_result()),
        "page": encapsulated_pdf(files, result_page(make_result()), ("20260101", "120000"), RSNA_2023),
    }
    for name, dataset in objects.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(to_bytes(dataset))
        told = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False).stderr
        assert "Error" not in told, (name, told)


def _references(report):
    return [
        item.ReferencedSOPSequence[0]
        for group in report.ContentSequence
        for child in group.get("ContentSequence", [])
        for item in child.get("ContentSequence", [])
        if item.ValueType == "IMAGE"
    ]


def test_targets_of_ones_own_are_coded_by_their_names(files):
    block = {"tumour_in_the_pancreas": {"kind": "binary", "classes": ["absent", "present"]}}
    targets = parse_targets({**block, "phase": {"kind": "multiclass", "classes": ["native", "venous"]}})
    folds = np.array([[0.3, 0.7, 0.9, 0.1]])
    result = StudyResult("p", "s", (SeriesResult("p", "s", "1", "off", folds),), targets=targets)
    report = structured_report(result, files, [], [])
    coded = {
        (str(item.CodeValue), str(item.CodeMeaning))
        for element in report.iterall()
        if element.VR == "SQ"
        for item in element.value
        if "CodeValue" in item and item.CodingSchemeDesignator == "99VOCO2D"
    }
    meanings = {meaning for _, meaning in coded}
    assert {"tumour in the pancreas", "present", "phase", "native", "venous"} <= meanings
    assert "absent" not in meanings
    assert all(len(value) <= 16 for value, _ in coded)
    assert "Traumatic injury" not in str(report)
    assert result_page(result).startswith(b"%PDF")
