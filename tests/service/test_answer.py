"""A study in, and out come a report and pictures that refer to the slices which the networks looked at."""

import io
import json
import shutil
import subprocess

import pytest
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

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
    assert b"Earlier images were deleted" in late[REPORT_NAME]


def test_a_refused_study_has_no_key_images(mean_explainer, marked_study):
    predictor, explainer = mean_explainer
    written = answer(predictor, marked_study[0], 1, pdf=False, explainer=explainer)
    assert "not_assessed" in written[RESULT_NAME].decode()
    assert not _key_images(written)
    assert "curves" not in written[EXPLANATION_NAME].decode()


@pytest.fixture
def mean_explainer(bright_predictor):
    predictor = Predictor(bright_predictor().models, gates="refuse")
    return predictor, Explainer(predictor)


def test_frames_of_one_file_are_told_apart_by_number(marked_study, bright_predictor):
    (series,) = explain_study(bright_predictor(), marked_study[0]).series
    files = read_headers(marked_study[0], "", 1)
    assert {entry.frame for entry in find_key_slices(series, files)} == {None}
    for header in files.headers:
        header.NumberOfFrames = 30
    first = find_key_slices(series, files)[0]
    assert first.frame == series.explanation.targets["bowel"].key_slices[0].source.instance_number


def test_slices_that_no_image_stands_for_are_left_out(marked_study, bright_predictor):
    (series,) = explain_study(bright_predictor(), marked_study[0]).series
    whole = read_headers(marked_study[0], "", 1)
    others = type(whole)([header for header in whole.headers if str(header.SOPInstanceUID) != marked_study[1]])
    found = find_key_slices(series, others)
    assert len(found) < len(find_key_slices(series, whole))
    assert marked_study[1] not in {entry.instance for entry in found}


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_error_in_what_is_sent(written, tmp_path):
    for name in (REPORT_NAME, "key01.dcm"):
        (tmp_path / name).write_bytes(written[name])
        told = subprocess.run(["dciodvfy", "-new", tmp_path / name], capture_output=True, text=True, check=False).stderr
        assert "Error" not in told, (name, told)
