"""A study in, and out come a report and pictures that refer to the slices which the networks looked at."""

import io
import json
import shutil
import subprocess
import tracemalloc

import pytest
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.uid import DeflatedExplicitVRLittleEndian, SecondaryCaptureImageStorage

from voco2d.errors import ReadError
from voco2d.inference.explain.explain_study import explain_study
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.predictor import Predictor
from voco2d.service.answer import EXPLANATION_NAME, REPORT_NAME, REST_REMARK, RESULT_NAME, answer
from voco2d.service.key_slices import find_key_slices
from voco2d.service.study_files import read_headers
from voco2d.targets import TARGETS

MARKED = 7
"""Place of the marked image, by instance number."""


@pytest.fixture(scope="session")
def marked_study(hospital_study, tmp_path_factory):
    """Copy the study with a bright mark on one image; return it and that image's SOP instance UID."""
    folder = tmp_path_factory.mktemp("marked") / "study"
    shutil.copytree(hospital_study, folder)
    path = sorted(folder.iterdir(), key=lambda path: int(dcmread(path, stop_before_pixels=True).InstanceNumber))[MARKED]
    dataset = dcmread(path)
    dataset.decompress(generate_instance_uid=False)
    pixels = dataset.pixel_array.copy()
    pixels[26:34, 36:44] = (2000 - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    return folder, str(dataset.SOPInstanceUID)


@pytest.fixture(scope="module")
def written(marked_study, bright_predictor):
    predictor = bright_predictor()
    return answer(predictor, marked_study[0], 1, pdf=False, explainer=Explainer(predictor))


def _key_images(written):
    return [dcmread(io.BytesIO(written[name])) for name in sorted(written) if name.startswith("key")]


def test_the_report_read_back_refers_to_the_key_slices_of_each_target(written, marked_study):
    report = srread(io.BytesIO(written[REPORT_NAME]))
    told = json.loads(written[EXPLANATION_NAME])["series"][0]["targets"]
    present = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in marked_study[0].iterdir()}
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == sum(len(target.classes) - 1 for target in TARGETS.values())
    for group in groups:
        target = group.tracking_identifier.rsplit("_", 1)[0]
        referred = [str(image.referenced_sop_instance_uid) for image in group.source_images]
        assert referred == [key["sop_instance_uid"] for key in told[target]["key_slices"]]
        assert referred[0] == marked_study[1]
        assert set(referred) <= present
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert marked_study[1] in listed <= present


def test_each_target_has_one_key_image_in_the_study_with_the_mark_in_colour(written, marked_study):
    images = _key_images(written)
    assert len(images) == len(TARGETS)
    source = dcmread(next(marked_study[0].iterdir()), stop_before_pixels=True)
    for image, name in zip(images, TARGETS, strict=True):
        assert image.SOPClassUID == SecondaryCaptureImageStorage
        assert (image.StudyInstanceUID, image.PatientID) == (source.StudyInstanceUID, source.PatientID)
        assert image.ImageComments.startswith(name)
        assert max(image.Rows, image.Columns) == 384
        scale = image.Rows / 64
        mark = image.pixel_array.astype(int)[int(28 * scale) : int(32 * scale), int(38 * scale) : int(42 * scale)]
        assert (mark[..., 0] - mark[..., 2] > 30).all()
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    assert len({image.SeriesInstanceUID for image in images}) == 1


def test_without_an_explainer_the_answer_is_the_same_and_names_no_slice(written, marked_study, bright_predictor):
    plain = answer(bright_predictor(), marked_study[0], 1, pdf=False)
    assert set(plain) == {RESULT_NAME, REPORT_NAME}
    assert plain[RESULT_NAME] == written[RESULT_NAME]
    groups = srread(io.BytesIO(plain[REPORT_NAME])).content.get_image_measurement_groups()
    assert not any(group.source_images for group in groups)


def test_an_answer_on_late_images_alone_says_so(marked_study, bright_predictor):
    plain, late = (answer(bright_predictor(), marked_study[0], 2, is_rest, pdf=False) for is_rest in (False, True))
    assert REST_REMARK in json.loads(late[RESULT_NAME])["reason"]
    assert REST_REMARK not in plain[RESULT_NAME].decode()
    assert REST_REMARK.encode() in late[REPORT_NAME]


def test_images_that_are_in_no_series_are_told_beside_the_numbers(marked_study, bright_predictor, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(marked_study[0], folder)
    for number, path in enumerate(sorted(marked_study[0].iterdir())):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.826.9", f"1.2.826.9.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if number:
            del dataset.PixelSpacing
        else:  # nobody misses a localizer
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.save_as(folder / f"second{number}")
    whole, part = (answer(bright_predictor(), place, 1, pdf=True) for place in (marked_study[0], folder))
    remark = f"not graded: {number}: PixelSpacing is missing or damaged"
    told = json.loads(part[RESULT_NAME])
    assert told["status"] == "assessed"
    assert remark in told["reason"]
    assert "localizer" not in told["reason"]
    assert remark.encode() in part[REPORT_NAME]
    assert "not graded" not in json.loads(whole[RESULT_NAME])["reason"]


def test_images_of_two_patients_in_one_study_are_refused(marked_study, bright_predictor, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(marked_study[0], folder)
    for path in sorted(marked_study[0].iterdir()):
        dataset = dcmread(path)
        dataset.PatientID, dataset.SOPInstanceUID = "other", f"{dataset.SOPInstanceUID}.1"
        dataset.save_as(folder / f"other{path.name}")
    with pytest.raises(ReadError, match="holds images of 2 patients or studies under one study UID"):
        answer(bright_predictor(), folder, 1, pdf=False)


def test_a_deflated_image_is_not_unpacked_for_its_header(marked_study, tmp_path):
    dataset = dcmread(next(marked_study[0].iterdir()))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(64 << 20)
    dataset.save_as(tmp_path / "1", little_endian=True, implicit_vr=False)
    tracemalloc.start()
    try:
        assert read_headers(tmp_path, 1).study_uid == dataset.StudyInstanceUID
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_of_other_networks_has_other_uids(marked_study, bright_predictor):
    def uid(digest):
        predictor = bright_predictor()
        predictor.models.runtimes[0].sha256 = digest
        return dcmread(io.BytesIO(answer(predictor, marked_study[0], 1, pdf=False)[REPORT_NAME])).SOPInstanceUID

    assert uid("0" * 64) == uid("0" * 64)
    assert uid("0" * 64) != uid("1" * 64)


def test_a_refused_study_has_no_key_images(mean_explainer, marked_study):
    predictor, explainer = mean_explainer
    written = answer(predictor, marked_study[0], 1, pdf=False, explainer=explainer)
    assert "not_assessed" in written[RESULT_NAME].decode()
    assert not _key_images(written)
    assert "curves" not in written[EXPLANATION_NAME].decode()


def test_gates_that_were_overruled_are_told_with_every_number(bright_predictor, marked_study):
    predictor = Predictor(bright_predictor().models, gates="flag")
    written = answer(predictor, marked_study[0], 1, pdf=False, explainer=Explainer(predictor))
    reason = json.loads(written[RESULT_NAME])["reason"]
    assert reason.startswith("gates=flag; ")
    for group in srread(io.BytesIO(written[REPORT_NAME])).content.get_image_measurement_groups():
        assert [item.TextValue for item in group[0].ContentSequence if item.name == codes.DCM.Comment] == [reason]
    assert all(image.ImageComments.endswith(reason) for image in _key_images(written))


@pytest.fixture
def mean_explainer(bright_predictor):
    predictor = Predictor(bright_predictor().models, gates="refuse")
    return predictor, Explainer(predictor)


def test_frames_of_one_file_are_told_apart_by_number(marked_study, bright_predictor):
    explained = explain_study(bright_predictor(), marked_study[0])
    files = read_headers(marked_study[0], 1)
    assert {entry.frame for entry in find_key_slices(explained, files)} == {None}
    for header in files.headers:
        header.NumberOfFrames = 30
    first = find_key_slices(explained, files)[0]
    assert first.frame == explained.series[0].explanation.targets["bowel"].key_slices[0].source.instance_number


def test_slices_that_no_image_stands_for_are_left_out(marked_study, bright_predictor):
    explained = explain_study(bright_predictor(), marked_study[0])
    whole = read_headers(marked_study[0], 1)
    others = type(whole)([header for header in whole.headers if str(header.SOPInstanceUID) != marked_study[1]])
    found = find_key_slices(explained, others)
    assert len(found) < len(find_key_slices(explained, whole))
    assert marked_study[1] not in {entry.instance for entry in found}


@pytest.fixture(params=["!", "~"])
def two_series(request, hospital_study, marked_study, tmp_path):
    """Put the marked series beside the one without the mark, behind or before it; return the folder and both UIDs."""
    uid = "1.2.3"
    for path in hospital_study.iterdir():
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, f"{uid}.{dataset.InstanceNumber}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / f"{request.param}{path.name}")
    for path in marked_study[0].iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path, uid, str(dcmread(path).SeriesInstanceUID)


def test_references_lead_to_the_series_that_raised_the_number(two_series, marked_study, bright_predictor):
    folder, plain, marked = two_series
    predictor = bright_predictor()
    written = answer(predictor, folder, 1, pdf=False, explainer=Explainer(predictor))
    report = srread(io.BytesIO(written[REPORT_NAME]))
    for group in report.content.get_image_measurement_groups():
        assert str(group.source_images[0].referenced_sop_instance_uid) == marked_study[1]
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert {str(series.SeriesInstanceUID) for series in study.ReferencedSeriesSequence} == {plain, marked}
    assert len(_key_images(written)) == len(TARGETS)
    without = answer(predictor, folder, 1, pdf=False)
    (study,) = dcmread(io.BytesIO(without[REPORT_NAME])).CurrentRequestedProcedureEvidenceSequence
    assert {str(series.SeriesInstanceUID) for series in study.ReferencedSeriesSequence} == {plain, marked}


@pytest.fixture
def odd_study(marked_study, tmp_path):
    """Copy the study with headers that are odd in ways that libraries quote."""
    for path in marked_study[0].iterdir():
        dataset = dcmread(path)
        with disable_value_validation():
            dataset.PatientName = "MEIER"
            dataset.PatientID = "MEIER" * 20
            dataset.AccessionNumber = "MEIER" * 5
            dataset.PatientBirthDate = "MEIER"
            dataset.PatientSex = "weiblich"
            dataset.save_as(tmp_path / path.name)
    return tmp_path


def test_odd_headers_are_answered_and_told_nowhere(odd_study, bright_predictor, caplog, recwarn):
    predictor = bright_predictor()
    written = answer(predictor, odd_study, 1, pdf=True, explainer=Explainer(predictor))
    assert {REPORT_NAME, "key01.dcm", "page.dcm"} <= set(written)
    assert "MEIER" not in caplog.text + "".join(str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("broken", ["key_image", "result_page"])
def test_a_picture_or_page_that_fails_is_left_out_alone(marked_study, bright_predictor, monkeypatch, caplog, broken):
    def fail(*_):
        raise ValueError("MEIER")

    monkeypatch.setattr(f"voco2d.service.answer.{broken}", fail)
    predictor = bright_predictor()
    written = answer(predictor, marked_study[0], 1, pdf=True, explainer=Explainer(predictor))
    assert {RESULT_NAME, REPORT_NAME, EXPLANATION_NAME} <= set(written)
    assert (("key01.dcm" in written), ("page.dcm" in written)) == (broken != "key_image", broken != "result_page")
    assert "is left out" in caplog.text
    assert "MEIER" not in caplog.text


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_error_in_what_is_sent(written, tmp_path):
    for name in (REPORT_NAME, "key01.dcm"):
        (tmp_path / name).write_bytes(written[name])
        told = subprocess.run(["dciodvfy", "-new", tmp_path / name], capture_output=True, text=True, check=False).stderr
        assert "Error" not in told, (name, told)
