import numpy as np
import pytest
from pydicom import dcmread

from voco2d.errors import ReadError
from voco2d.io.dicom import read_dicom
from voco2d.io.readers import read_volume
from voco2d.io.source import ReadArgs, Source

TILT = np.radians(18.5)
ORIENTATIONS = {
    "usual": (1, 0, 0, 0, 1, 0),
    "rows run up": (1, 0, 0, 0, -1, 0),
    "columns run right to left": (-1, 0, 0, 0, 1, 0),
    "turned by 180 degrees": (-1, 0, 0, 0, -1, 0),
    "transposed": (0, 1, 0, 1, 0, 0),
    "turned by 90 degrees": (0, -1, 0, 1, 0, 0),
}


def read(files, folder, **args):
    return read_dicom(Source("dicom", folder, tuple(files)), ReadArgs(**args))


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_in_plane_orientation_ends_in_patient_axes(tmp_path, patient, name):
    volume, rejections = read(patient.write_series(tmp_path, patient.Spec(orientation=ORIENTATIONS[name])), tmp_path)
    patient.check(volume)
    assert rejections == ()
    assert volume.spacing_mm == (5.0, 2.0, 2.0)
    assert volume.notes == ()


@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP"])
def test_patient_position_does_not_flip(tmp_path, patient, position):
    volume, _ = read(patient.write_series(tmp_path, patient.Spec(tags={"PatientPosition": position})), tmp_path)
    patient.check(volume)


@pytest.mark.parametrize("step", [5.0, -5.0])
def test_order_comes_from_positions_and_not_from_names_or_numbers(tmp_path, patient, step):
    names = [f"{n}.dcm" for n in (3, 1, 4, 15, 9, 2, 6, 5)]
    files = patient.write_series(tmp_path, patient.Spec(step_mm=(0, 0, step)), names)
    volume, _ = read(sorted(files), tmp_path)
    patient.check(volume)
    assert list(volume.instance_numbers) == sorted(range(1, 9), reverse=step > 0)


def test_anisotropic_pixels_keep_rows_and_columns_apart(tmp_path, patient):
    volume, _ = read(patient.write_series(tmp_path, patient.Spec(spacing_mm=(5.0, 2.0, 3.0))), tmp_path)
    patient.check(volume)
    assert volume.spacing_mm == (5.0, 2.0, 3.0)


def test_oblique_slices_are_read_and_noted(tmp_path, patient):
    spec = patient.Spec(orientation=(1, 0, 0, 0, np.cos(TILT), -np.sin(TILT)))
    volume, _ = read(patient.write_series(tmp_path, spec), tmp_path)
    patient.check(volume, tolerance=1.0)
    assert volume.notes == ("oblique: 18.5 deg",)


def test_gantry_tilt_is_noted(tmp_path, patient):
    spec = patient.Spec(orientation=(1, 0, 0, 0, np.cos(TILT), -np.sin(TILT)), step_mm=(0, 0, 5))
    volume, _ = read(patient.write_series(tmp_path, spec), tmp_path)
    assert volume.notes == ("tilt: 18.5 deg, corrected by shear",)
    assert volume.spacing_mm[0] == pytest.approx(5 * np.cos(TILT), abs=1e-4)


@pytest.mark.parametrize("orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)])
def test_sagittal_and_coronal_series_are_refused(tmp_path, patient, orientation):
    files = patient.write_series(tmp_path, patient.Spec(orientation=orientation))
    with pytest.raises(ReadError, match="not axial"):
        read(files, tmp_path)


def test_duplicates_keep_the_lowest_instance_number(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    patient.write_slice(tmp_path / "0.dcm", np.full((8, 10), 9), patient.Spec(), np.array([-10.0, -8.0, -20.0]), 99)
    volume, rejections = read([tmp_path / "0.dcm", *files], tmp_path)
    patient.check(volume)
    assert volume.notes == ("duplicates: 1, 1 of them with another picture",)
    assert [rejection.path for rejection in rejections] == [str(tmp_path / "0.dcm")]


def test_a_damaged_duplicate_gives_way_to_the_sound_one(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[2].read_bytes())
    files[2].write_bytes(copy.read_bytes()[:-20])
    volume, rejections = read([*files, copy], tmp_path)
    patient.check(volume)
    assert "cut short" in rejections[0].reason
    assert volume.hu.shape[0] == 8


def test_missing_slice_is_noted_with_millimetres(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    volume, _ = read(files[:3] + files[4:], tmp_path)
    assert volume.hu.shape[0] == 7
    assert volume.notes == ("gap: slice distances 5 to 10 mm where 5 mm is usual, 1 odd, 1 missing",)


def test_a_cut_file_is_rejected_and_the_rest_is_read(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    files[4].write_bytes(files[4].read_bytes()[:-50])
    files[6].write_text("not a slice")
    volume, rejections = read(files, tmp_path)
    assert volume.hu.shape[0] == 6
    assert [(rejection.path, rejection.reason.split(" (")[0]) for rejection in rejections] == [
        (str(files[6]), "not a DICOM file although named .dcm"),
        (str(files[4]), "pixel data damaged or cut short"),
    ]
    assert [note.split(":")[0] for note in volume.notes] == ["gap", "rejected"]


def test_strays_of_another_matrix_or_orientation_are_rejected(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    wide = patient.write_series(tmp_path / "wide", patient.Spec(slices=1, shape=(8, 12)))
    turned = patient.write_series(tmp_path / "turned", patient.Spec(slices=1, orientation=(0, 1, 0, 0, 0, -1)))
    volume, rejections = read([*wide, *turned, *files], tmp_path)
    patient.check(volume)
    reasons = sorted(rejection.reason for rejection in rejections)
    assert reasons == [
        "matrix size differs from the series",
        "not axial: the slice normal is 90 degrees off the body's long axis",
    ]


def test_too_few_positions_are_refused_with_the_count(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec(slices=4))
    with pytest.raises(ReadError, match=r"4 slice positions in 4 files, a volume needs at least 5"):
        read(files, tmp_path)
    volume, _ = read(files, tmp_path, min_slices=4)
    assert volume.hu.shape[0] == 4


def test_a_refusal_counts_the_files_that_were_not_used(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec(slices=5))
    files[0].write_text("not a slice")
    with pytest.raises(ReadError, match="at least 5; 1 file not used: not a DICOM file"):
        read(files, tmp_path)
    files[1].write_text("not a slice")
    with pytest.raises(ReadError, match=r"3 slice positions in 5 files, .* at least 5; 2 files not used: not a DICOM"):
        read(files, tmp_path)
    with pytest.raises(
        ReadError, match=r"^[^;]*1 slice position in 1 file, a volume needs at least 5; give the folder"
    ):
        read(files[2:3], tmp_path)


def test_slices_that_cannot_be_decoded_may_leave_too_few(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec(slices=5))
    files[2].write_bytes(files[2].read_bytes()[:-50])
    with pytest.raises(
        ReadError, match=r"4 slice positions in 5 files, .* at least 5; 1 file not used: pixel data"
    ) as told:
        read(files, tmp_path)
    assert told.value.path == str(tmp_path)


def test_duplicates_are_not_counted_among_rejected_files(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    (tmp_path / "copy.dcm").write_bytes(files[2].read_bytes())
    files[0].write_text("not a slice")
    volume, rejections = read([*files, tmp_path / "copy.dcm"], tmp_path)
    assert len(rejections) == 2
    assert volume.notes == ("duplicates: 1", "rejected: 1 files of the series")


def test_a_stack_that_is_gone_is_told(tmp_path, patient):
    files = patient.write_series(tmp_path, patient.Spec())
    with pytest.raises(ReadError, match="no longer holds the stack"):
        read_dicom(Source("dicom", tmp_path, tuple(files), stack=1), ReadArgs())


def test_the_limit_of_voxels_is_that_of_all_slices(tmp_path, patient, monkeypatch):
    files = patient.write_series(tmp_path, patient.Spec())
    monkeypatch.setattr("voco2d.io.dicom.MAX_VOXELS", 8 * 8 * 10)
    assert read(files, tmp_path)[0].hu.size == 640
    monkeypatch.setattr("voco2d.io.dicom.MAX_VOXELS", 8 * 8 * 10 - 1)
    with pytest.raises(ReadError, match="640 voxels, 639 are the limit"):
        read(files, tmp_path)


def test_slices_of_another_stack_are_rejected_with_the_size_of_the_one_that_is_read(tmp_path, patient):
    files = patient.write_series(tmp_path / "a", patient.Spec())
    others = patient.write_series(tmp_path / "b", patient.Spec(slices=6, shape=(8, 12)))
    volume, rejections = read([*others, *files], tmp_path)
    patient.check(volume)
    assert {rejection.path for rejection in rejections} == {str(path) for path in others}
    assert {rejection.reason for rejection in rejections} == {
        "another stack of the series; the one of 8 slices is read"
    }


def test_turned_and_padded_slices_are_counted(tmp_path, patient):
    tags = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    dark = np.full((32, 32), 1000)
    dark[8:24, 8:24] = -40
    dark[0] = 0
    for number in range(6):
        position = np.array([0, 0, 5.0 * number])
        patient.write_slice(tmp_path / f"{number}.dcm", dark, patient.Spec(tags=tags), position, number)
    volume, _ = read(sorted(tmp_path.iterdir()), tmp_path)
    assert volume.notes == (
        "inverted: 6 slices stored as a negative",
        "padding: 6 slices with padding that is not air",
    )


def test_numbers_and_uids_are_those_of_the_slices_or_none(tmp_path, patient):
    files = patient.write_series(tmp_path / "a", patient.Spec())
    uids = [dcmread(path).SOPInstanceUID for path in files]
    volume, _ = read(files, tmp_path)
    assert volume.instance_numbers == tuple(range(8, 0, -1))  # from superior to inferior
    assert volume.instance_uids == tuple(reversed(uids))
    filled, _ = read(files[:3] + files[4:], tmp_path, fill_gaps=True)
    assert (filled.instance_numbers, filled.instance_uids) == ((), ())
    files[3].write_bytes(
        patient.write_series(tmp_path / "b", patient.Spec(tags={"InstanceNumber": None}))[3].read_bytes()
    )
    assert read(files, tmp_path)[0].instance_numbers == ()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "dose or protocol page"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MAXIMUM"]}, "projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]}, "projection"),
        ({"RescaleType": "MGML"}, "no Hounsfield units"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient is missing"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing is not positive"),
        ({"PixelSpacing": [150, 150]}, "voxels 5 x 150 x 150 mm apart, a CT's are 0.01 to 100 mm"),
    ],
)
def test_what_is_no_ct_volume_is_refused(tmp_path, patient, tags, reason):
    files = patient.write_series(tmp_path, patient.Spec(tags=tags))
    with pytest.raises(ReadError, match=reason):
        read(files, tmp_path)


def test_missing_modality_counts_as_ct_as_in_the_rsna_files(tmp_path, patient):
    volume, _ = read(
        patient.write_series(tmp_path, patient.Spec(tags={"Modality": None, "SOPClassUID": None})), tmp_path
    )
    patient.check(volume)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_modality_in_small_letters_is_taken(tmp_path, patient):
    volume, _ = read(patient.write_series(tmp_path, patient.Spec(tags={"Modality": "ct"})), tmp_path)
    patient.check(volume)


def test_the_body_part_is_that_of_the_middle_slice(tmp_path, patient):
    files = patient.write_series(tmp_path / "a", patient.Spec(tags={"BodyPartExamined": "CHEST"}))
    assert read(files, tmp_path)[0].body_part == "CHEST"
    files[0].write_bytes(patient.write_series(tmp_path / "b", patient.Spec())[0].read_bytes())
    assert read(files, tmp_path)[0].body_part == "CHEST"
    assert read_volume(tmp_path / "b").body_part == ""


def test_missing_rescale_is_noted(tmp_path, patient):
    tags = {"RescaleSlope": None, "RescaleIntercept": None}
    volume, _ = read(patient.write_series(tmp_path, patient.Spec(tags=tags)), tmp_path)
    assert volume.notes[0].startswith("no rescale: ")


def test_ids_come_from_the_header_or_else_from_the_folder(tmp_path, patient):
    volume = read_volume(patient.write_series(tmp_path / "a", patient.Spec())[0].parent)
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("patient-7", "1.2.3", "1.2.3.4")
    empty = {"PatientID": "", "StudyInstanceUID": "", "SeriesInstanceUID": ""}
    volume = read_volume(patient.write_series(tmp_path / "b", patient.Spec(tags=empty))[0].parent)
    assert (volume.patient_id, volume.study_id, volume.series_id) == ("b", "", "b")


def test_padding_is_raised_to_air(tmp_path, patient):
    spec = patient.Spec()
    for number in range(6):
        patient.write_slice(
            tmp_path / f"{number}", np.full((4, 4), -3024), spec, np.array([0, 0, 5.0 * number]), number
        )
    volume, _ = read(sorted(tmp_path.iterdir()), tmp_path)
    assert volume.hu.min() == volume.hu.max() == -1024


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "shape", "words"),
    [
        ("ge_tilt_variable_spacing", (12, 551, 512), ["tilt", "uneven"]),
        ("missing_slice", (7, 512, 512), ["gap"]),
        ("overlapping_slices", (12, 512, 512), []),
        ("jpeg2000_series", (20, 512, 512), []),
    ],
)
def test_real_series_are_read_with_their_quirks(real_data, folder, shape, words):
    volume = read_volume(real_data / "dicom" / folder)
    assert volume.hu.shape == shape
    assert [note.split(":")[0] for note in volume.notes] == words


@pytest.mark.realdata
def test_real_quirks_are_measured(real_data):
    assert (
        read_volume(real_data / "dicom" / "ge_tilt_variable_spacing").notes[0] == "tilt: 18.5 deg, corrected by shear"
    )
    assert read_volume(real_data / "dicom" / "jpeg2000_series").patient_id == "jpeg2000_series"


@pytest.mark.parametrize(
    "orientation",
    [(2, 0, 0, 0, 2, 0), (1, 0, 0, 0, 0.9, 0), (1, 0, 0, 0.1, 1, 0), (0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0)],
)
def test_directions_that_are_no_perpendicular_unit_vectors_are_refused(tmp_path, patient, orientation):
    files = patient.write_series(tmp_path, patient.Spec(orientation=orientation, step_mm=(0, 0, 5)))
    with pytest.raises(ReadError, match=r"ImageOrientationPatient is damaged: .* not perpendicular unit vectors"):
        read(files, tmp_path)


def test_directions_rounded_to_two_digits_are_made_exact(tmp_path, patient):
    turn = np.radians(30)
    orientation = tuple(np.round([np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0], 2))
    assert np.linalg.norm(orientation[:3]) != pytest.approx(1, abs=1e-3)
    volume, _ = read(patient.write_series(tmp_path, patient.Spec(orientation=orientation, step_mm=(0, 0, 5))), tmp_path)
    np.testing.assert_allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-12)
    assert volume.spacing_mm == pytest.approx((5, 2, 2), abs=1e-12)


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "coverage"), [("missing_slice", 40.0), ("ge_tilt_variable_spacing", 60.08)])
def test_real_coverage_comes_from_the_positions(real_data, folder, coverage):
    assert read_volume(real_data / "dicom" / folder).coverage_mm[0] == pytest.approx(coverage, abs=0.02)
