"""Small sound series in every format, built in code, as file name -> bytes."""

import gzip
import io
import json

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

Files = dict[str, bytes]
SHAPE = (6, 32, 40)
MARKERS = ("MARKERNAME", "MARKERID", "19010203")
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}


def build() -> dict[str, Files]:
    """Every case by its name."""
    hu = np.random.default_rng(0).integers(-900, 1200, SHAPE).astype(np.int16)
    cases = {name: dicom_series(hu, syntax) for name, syntax in SYNTAXES.items()}
    cases["enhanced"] = {"enhanced.dcm": enhanced(hu)}
    cases |= nifti(hu)
    buffer = io.BytesIO()
    np.save(buffer, hu)
    sidecar = {"axes": "IPL", "spacing_mm": [3, 1, 1], "intensity": "hu", "patient_id": MARKERS[1]}
    cases["npy"] = {"scan.npy": buffer.getvalue(), "scan.json": json.dumps(sidecar).encode()}
    raw = hu.astype("<i2").tobytes()
    z, h, w = SHAPE
    cases["mha"] = {
        "scan.mha": (
            f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 3\nDimSize = {w} {h} {z}\n"
            f"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        ).encode()
        + raw
    }
    cases["nrrd"] = {
        "scan.nrrd": (
            f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {w} {h} {z}\n"
            "space directions: (1,0,0) (0,1,0) (0,0,3)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
            "space origin: (0,0,0)\n\n"
        ).encode()
        + raw
    }
    return cases


def common(syntax: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in COMPRESSED else syntax
    ds.Modality = "CT"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{MARKERS[0]}^X", MARKERS[1], MARKERS[2]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.Rows, ds.Columns = SHAPE[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def dicom_series(hu: np.ndarray, syntax: str) -> Files:
    files = {}
    for z, plane in enumerate(hu):
        ds = common(syntax)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = f"1.2.3.4.{z + 1}"
        ds.InstanceNumber, ds.ImagePositionPatient = z + 1, [-10, -8, -3 * z]
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (plane + 1024).astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
        if syntax in COMPRESSED:
            ds.compress(syntax)
        files[f"{z + 1}.dcm"] = _bytes(ds)
    return files


def enhanced(hu: np.ndarray) -> bytes:
    ds = common(ExplicitVRLittleEndian)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.SOPInstanceUID = "1.2.3.4.9"
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(PixelSpacing=[1, 1])
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelValueTransformationSequence = _item(RescaleSlope=1, RescaleIntercept=-1024)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for z in range(len(hu)):
        frames.append(Dataset())
        frames[-1].PlanePositionSequence = _item(ImagePositionPatient=[-10, -8, -3 * z])
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.NumberOfFrames = len(hu)
    ds.PixelData = (hu + 1024).astype("<u2").tobytes()
    return _bytes(ds)


def nifti(hu: np.ndarray) -> dict[str, Files]:
    image = nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 3.0, 1.0]))
    data = image.to_bytes()
    return {"nii": {"scan.nii": data}, "nii.gz": {"scan.nii.gz": gzip.compress(data, mtime=0)}}


def _item(**values: object) -> Sequence:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def _bytes(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
