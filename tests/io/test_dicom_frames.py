import os

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from voco2d.errors import ReadError
from voco2d.io import dicom_frames
from voco2d.io.dicom_frames import ENHANCED_CT, kept_header, read_headers
from voco2d.io.discover import discover
from voco2d.io.readers import read_source, read_volume


def item(**values):
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def write_enhanced(path, patient, stacks=1, spec=None, slopes=(1, 2), rle=False, sop_class=ENHANCED_CT[0]):
    """The made-up patient as one enhanced file; every other frame has another slope, frames stand in mixed order."""
    spec = spec or patient.Spec()
    affine = patient.slice_affine(spec)
    hu = np.rint(patient.sample(affine, (spec.slices, *spec.shape)))
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID, ds.Modality, ds.PatientID = "1.2.3.4.5", "CT", "patient-7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.ImageType, ds.BodyPartExamined = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "ABDOMEN"
    ds.Rows, ds.Columns = spec.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=list(spec.spacing_mm[1:]))
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(spec.orientation))
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], []
    order = [*range(0, spec.slices, 2), *range(1, spec.slices, 2)]
    for stack in range(stacks):
        for z in order:
            slope = slopes[z % 2]
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=list(affine[:3, 3] + z * affine[:3, 0]))
            frame.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=-100 * z)
            frame.FrameContentSequence = item(StackID=str(stack + 1))
            frames.append(frame)
            pixels.append((hu[z] + 100 * z) // slope * 1.0)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.NumberOfFrames = len(frames)
    ds.PixelData = np.stack(pixels).astype("<i2").tobytes()
    if rle:
        ds.compress(RLELossless)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("sop_class", ENHANCED_CT)
def test_enhanced_ct_is_read_by_its_frames(tmp_path, patient, rle, sop_class):
    volume = read_volume(write_enhanced(tmp_path / "enhanced", patient, rle=rle, sop_class=sop_class))
    patient.check(volume, tolerance=1)  # odd values lose their last bit to the slope of 2
    assert volume.spacing_mm == (5.0, 2.0, 2.0)
    assert volume.notes == ("multiframe: enhanced CT",)
    assert (volume.patient_id, volume.body_part) == ("patient-7", "ABDOMEN")


def test_stacks_of_one_file_are_volumes(tmp_path, patient):
    write_enhanced(tmp_path / "enhanced.dcm", patient, stacks=2)
    sources, rejections = discover([tmp_path])
    assert rejections == []
    assert [source.stack for source in sources] == [0, 1]
    assert len({(source.path, source.part) for source in sources}) == 2
    for source in sources:
        volume, left_out = read_source(source)
        patient.check(volume, tolerance=1)
        assert left_out == ()


def test_frames_without_descriptions_are_refused(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient)
    path.write_bytes(path.read_bytes().replace(b"(\0\x08\0IS\x02\x008 ", b"(\0\x08\0IS\x02\x0099"))
    sources, rejections = discover([path])
    assert sources == []
    assert rejections[0].reason == "99 frames are promised, 8 are described"


def test_frames_beyond_the_promised_number_are_not_lost_in_silence(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient)
    change(path, lambda dataset: setattr(dataset, "NumberOfFrames", 7))
    sources, rejections = discover([path])
    assert sources == []
    assert rejections[0].reason == "7 frames are promised, 8 are described"


def test_multiframe_of_another_class_is_refused(tmp_path, patient):
    write_enhanced(tmp_path / "a.dcm", patient, sop_class="1.2.840.10008.5.1.4.1.1.2")
    with pytest.raises(ReadError, match="multi-frame DICOM without an enhanced CT header"):
        read_volume(tmp_path / "a.dcm")


def change(path, alter):
    dataset = pydicom.dcmread(path)
    alter(dataset)
    dataset.save_as(path)


def set_type(dataset, frames, frame_type="ORIGINAL", technique="NONE"):
    for frame in frames:
        kind = item(FrameType=["ORIGINAL", "PRIMARY", frame_type, "NONE"], VolumeBasedCalculationTechnique=technique)
        dataset.PerFrameFunctionalGroupsSequence[frame].CTImageFrameTypeSequence = kind


NO_SLICES = {
    "localizer": (("LOCALIZER", "NONE"), "localizer, not a slice of a volume"),
    "technique": (("VOLUME", "MAX_IP"), "projection or rendering of a volume, not a slice of a volume"),
    "minimum": (("VOLUME", "MIN_IP"), "projection or rendering of a volume, not a slice of a volume"),
    "average": (("AVERAGE", "NONE"), "projection or rendering of a volume, not a slice of a volume"),
    "rendering": (("VOLUME", "VOLUME_RENDER"), "projection or rendering of a volume, not a slice of a volume"),
}


@pytest.mark.parametrize("name", NO_SLICES)
def test_frames_that_are_no_slices_are_left_out_and_counted(tmp_path, patient, name):
    kind, reason = NO_SLICES[name]
    path = write_enhanced(tmp_path / "a.dcm", patient, spec=patient.Spec(slices=10))
    change(path, lambda dataset: set_type(dataset, (0, 5), *kind))  # frames 0 and 5 are the lowest two slices
    (source,), rejections = discover([path])
    volume, left_out = read_source(source)
    patient.check(volume, tolerance=1)
    assert volume.hu.shape[0] == 8
    assert rejections == []
    assert [(entry.path, entry.reason) for entry in left_out] == [(str(path), f"2 of 10 frames: {reason}")]
    assert f"rejected: 2 of 10 frames: {reason}" in volume.notes


@pytest.mark.parametrize("name", NO_SLICES)
def test_a_file_of_nothing_but_other_frames_is_refused(tmp_path, patient, name):
    kind, reason = NO_SLICES[name]
    path = write_enhanced(tmp_path / "a.dcm", patient)
    change(path, lambda dataset: set_type(dataset, range(8), *kind))
    sources, rejections = discover([path])
    assert sources == []
    assert [entry.reason for entry in rejections] == [reason]


def test_a_technique_of_the_whole_file_is_looked_at(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient)
    change(path, lambda dataset: setattr(dataset, "VolumeBasedCalculationTechnique", "MAX_IP"))
    with pytest.raises(ReadError, match="projection or rendering"):
        read_volume(path)


def test_reformats_and_mixed_files_are_read(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient)
    change(path, lambda dataset: setattr(dataset, "VolumeBasedCalculationTechnique", "MIXED"))
    change(path, lambda dataset: set_type(dataset, range(8), "VOLUME", "MPR"))
    patient.check(read_volume(path), tolerance=1)


def test_frames_of_crooked_directions_are_refused(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient)
    crooked = [2, 0, 0, 0, 2, 0]
    change(
        path,
        lambda dataset: setattr(
            dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0], "ImageOrientationPatient", crooked
        ),
    )
    with pytest.raises(ReadError, match="not perpendicular unit vectors"):
        read_volume(path)


def test_two_files_at_the_same_positions_are_two_volumes(tmp_path, patient):
    for name, intercept in (("a", 0), ("b", 500)):
        path = write_enhanced(tmp_path / f"{name}.dcm", patient, slopes=(1, 1))
        change(path, lambda dataset, by=intercept: shift(dataset, by))
    sources, rejections = discover([tmp_path])
    assert rejections == []
    volumes = [read_source(source) for source in sources]
    assert [left_out for _, left_out in volumes] == [(), ()]
    first, second = (volume.hu for volume, _ in volumes)
    assert np.unique(second.astype(int) - first).tolist() in ([500], [-500])


def test_copies_of_one_file_are_duplicates(tmp_path, patient):
    for name in "ab":
        write_enhanced(tmp_path / f"{name}.dcm", patient)
    (source,), _ = discover([tmp_path])
    volume, left_out = read_source(source)
    patient.check(volume, tolerance=1)
    assert volume.notes == ("duplicates: 8", "multiframe: enhanced CT")
    assert {entry.path for entry in left_out} == {str(tmp_path / "b.dcm")}


def shift(dataset, by):
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PixelValueTransformationSequence[0].RescaleIntercept += by


def test_frames_left_out_of_a_file_of_two_volumes_are_told_once(tmp_path, patient):
    path = write_enhanced(tmp_path / "a.dcm", patient, stacks=2, spec=patient.Spec(slices=10))
    change(path, lambda dataset: set_type(dataset, (0, 15), "LOCALIZER"))  # one of each volume
    sources, _ = discover([path])
    told = [read_source(source)[1] for source in sources]
    assert [[entry.reason for entry in left_out] for left_out in told] == [
        ["2 of 20 frames: localizer, not a slice of a volume"],
        [],
    ]


def test_a_file_that_has_changed_is_read_anew(tmp_path, patient, monkeypatch):
    path = patient.write_series(tmp_path / "a", patient.Spec())[0]
    with monkeypatch.context() as later:
        later.setattr(dicom_frames, "_SETTLED_NS", -(10**18))
        (before,), _ = read_headers(path)
        kept = kept_header.cache_info().hits
        assert read_headers(path)[0] == [before]
        assert kept_header.cache_info().hits == kept + 1
    change(path, lambda dataset: setattr(dataset, "PatientID", "patient-8"))  # as long as before
    assert read_headers(path)[0][0].patient_id == "patient-8"
    change(path, lambda dataset: setattr(dataset, "PatientID", "patient-9"))  # perhaps at the same tick of the clock
    assert read_headers(path)[0][0].patient_id == "patient-9"
    os.utime(path, (2, 2))  # as copying programs do; the time of the change itself can't be set
    assert read_headers(path)[0][0].patient_id == "patient-9"
    assert kept_header.cache_info().hits == kept + 1
