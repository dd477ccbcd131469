import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from voco2d.errors import ReadError
from voco2d.io.dicom_frames import ENHANCED_CT
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
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
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
    assert volume.patient_id == "patient-7"


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


def test_multiframe_of_another_class_is_refused(tmp_path, patient):
    write_enhanced(tmp_path / "a.dcm", patient, sop_class="1.2.840.10008.5.1.4.1.1.2")
    with pytest.raises(ReadError, match="multi-frame DICOM without an enhanced CT header"):
        read_volume(tmp_path / "a.dcm")
