"""Headers as hospitals write them, and what answers make of them."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.service.answer import to_bytes
from voco2d.service.key_image import encapsulated_pdf, key_image
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import KeySlice, read_headers
from voco2d.targets import RSNA_2023

LATIN, CHINESE, KOREAN = "Müller^Jürgen", "王^小东", "Hong^Gildong=洪^吉洞=홍^길동"
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
KANJI, KANJI_BEHIND_KATAKANA = ["", "ISO 2022 IR 87"], ["ISO 2022 IR 13", "ISO 2022 IR 87"]
CHINESE_EXTENSION = ["", "ISO 2022 IR 58"]


@pytest.fixture
def make_files(hospital_study, tmp_path):
    """Read the study with other values in its headers."""

    def make(**values):
        folder = tmp_path / "study"
        folder.mkdir()
        for path in sorted(hospital_study.iterdir())[:3]:
            dataset = dcmread(path)
            with disable_value_validation():
                for name, value in values.items():
                    if isinstance(value, bytes):  # what pydicom would not take as a number
                        tag = Tag(name)
                        dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
                    else:
                        setattr(dataset, name, value)
                dataset.save_as(folder / path.name)
        return read_headers(folder, 1)

    return make


def _answers(files, result):
    """Write one object of each kind; kind → its bytes."""
    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(png, format="PNG")
    slices = [KeySlice("liver", str(files.headers[1].SOPInstanceUID), png.getvalue())]
    with quiet_pydicom():
        return {
            "report": to_bytes(structured_report(result, files, slices, ["ab" * 32])),
            "key": to_bytes(key_image(files, slices[0], 1, result)),
            "page": to_bytes(encapsulated_pdf(files, b"%PDF", ("20260101", "120000"), RSNA_2023)),
        }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PatientSex", value) for value in ("U", "N", "weiblich", "m", ["M", "F"])),
        *(("PatientBirthDate", value) for value in ("19700000", "1.1.1970", "19700231", "19700101000000")),
        *(("StudyDate", value) for value in ("2026-01-05", "2026.01.05", "20260101-20260131")),
        *(("StudyTime", value) for value in ("12:30:00", "240000")),
        *(("PatientAge", "45 years"), ("PatientBirthTime", "12:00"), ("PatientWeight", b"70,5")),
        *(("PatientName", "A^B\\C^D"), ("ReferringPhysicianName", "A\\B")),
    ],
)
def test_a_value_that_is_none_is_left_empty_in_the_answers(make_files, make_result, name, value):
    for written in _answers(make_files(**{name: value}), make_result()).values():
        assert not dcmread(io.BytesIO(written)).get(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PatientSex", "O"), ("PatientBirthDate", "19700101"), ("StudyTime", "123000.5"), ("PatientAge", "045Y")),
        *(("PatientID", "A" * 80), ("AccessionNumber", "B" * 20), ("StudyID", "C" * 20), ("PatientID", "A B^c")),
    ],
)
def test_what_is_a_value_or_identifies_stays_as_it_came(make_files, make_result, name, value):
    files = make_files(**{name: value})
    assert str(files.first[name].value) == value
    for written in _answers(files, make_result()).values():
        with quiet_pydicom():
            assert dcmread(io.BytesIO(written)).get(name, value) == value


@pytest.mark.parametrize("value", [b"A0", "", None])
def test_images_without_a_number_are_ordered_by_uid(make_files, value):
    headers = make_files(InstanceNumber=value, NumberOfFrames=b"none").headers
    assert [header.SOPInstanceUID for header in headers] == sorted(header.SOPInstanceUID for header in headers)


def test_an_instance_with_an_odd_number_of_frames_is_a_single_image(make_files):
    files = make_files(NumberOfFrames=b"none")
    with quiet_pydicom():
        assert not files.is_multiframe(str(files.first.SOPInstanceUID))


@pytest.mark.parametrize(
    ("characters", "name", "written"),
    [
        ("ISO_IR 6", "Meier^Max", None),
        ("ISO 2022 IR 6", "Meier^Max", "ISO 2022 IR 6"),
        ("ISO_IR 100", LATIN, "ISO_IR 100"),
        ("ISO 2022 IR 100", LATIN, "ISO 2022 IR 100"),
        ("ISO-8859-1", LATIN, "ISO-8859-1"),
        ("ISO_IR 192", CHINESE, "ISO_IR 192"),
        ("GB18030", CHINESE, "GB18030"),
        ("GBK", CHINESE, "GBK"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13"),
        (KANJI, JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO_IR 6", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (KANJI_BEHIND_KATAKANA, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", KANJI_BEHIND_KATAKANA),
        (["", "ISO 2022 IR 149"], KOREAN, ["ISO 2022 IR 6", "ISO 2022 IR 149"]),
        (CHINESE_EXTENSION, "Wang^XiaoDong", ["ISO 2022 IR 6", "ISO 2022 IR 58"]),
    ],
)
def test_names_are_the_same_in_the_answers(make_files, make_result, characters, name, written):
    files = make_files(SpecificCharacterSet=characters, PatientName=name)
    for kind, content in _answers(files, make_result()).items():
        with quiet_pydicom():
            back = dcmread(io.BytesIO(content))
            assert str(back.PatientName) == name, kind
            assert back.get("SpecificCharacterSet") == written, kind


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize(
    ("characters", "name"),
    [
        *(("ISO_IR 6", "Meier^Max"), ("ISO_IR 100", LATIN), ("ISO_IR 192", CHINESE), ("GB18030", CHINESE)),
        *((KANJI, JAPANESE), (KANJI_BEHIND_KATAKANA, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"), (["", "ISO 2022 IR 149"], KOREAN)),
    ],
)
def test_dciodvfy_finds_no_error_in_answers_of_other_characters(make_files, make_result, tmp_path, characters, name):
    odd = {"PatientSex": "weiblich", "PatientBirthDate": "19700000", "StudyTime": "12:30:00", "PatientAge": "45"}
    files = make_files(SpecificCharacterSet=characters, PatientName=name, **odd)
    for kind, content in _answers(files, make_result()).items():
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(content)
        told = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False).stderr
        assert b"Error" not in told, (kind, told)
