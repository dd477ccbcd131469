"""Small sound series in every format, built in code, as file name -> bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

import jpeg


@dataclass(frozen=True)
class Link:
    """A symbolic link; `OUTSIDE` in its target is a folder beside the one that is read, which holds the sound files."""

    target: str

    @property
    def is_folder(self) -> bool:
        """Whether it leads to a folder, or back to itself by way of one."""
        return self.target in (".", "..", "loop", OUTSIDE)


@dataclass(frozen=True)
class Fifo:
    """A named pipe that nobody writes to."""


@dataclass(frozen=True)
class Sparse:
    """A file that begins with some bytes and goes on with zeros that take no room."""

    start: bytes
    size: int


Entry: TypeAlias = bytes | Link | Fifo | Sparse
Files: TypeAlias = dict[str, Entry]

OUTSIDE = "OUTSIDE"
SHAPE = (6, 32, 40)
MARKERS = ("MARKERNAME", "MARKERID", "19010203")
NEAR = 2
_EIGHT_BIT_SLOPE = 9


def patient() -> np.ndarray:
    """HU of a body of noise in air; no two slices are alike."""
    draw = np.random.default_rng(0)
    hu = draw.integers(-1024, -980, SHAPE)
    hu[:, 4:-4, 4:-4] = draw.integers(-300, 1200, (SHAPE[0], SHAPE[1] - 8, SHAPE[2] - 8))
    return hu.astype(np.int16)


def dicom_cases(hu: np.ndarray) -> dict[str, Files]:
    """A series in every transfer syntax that can be written here, in the competition's layout, and enhanced."""
    cases = {name: series(hu, write) for name, write in _WRITERS.items()}
    cases["competition"] = {f"train_images/7/21/{name}": data for name, data in cases["explicit"].items()}
    cases["competition"]["train.csv"] = f"patient_id,any_injury\n7,0\n{MARKERS[1]},0\n".encode()
    cases["enhanced"] = {"enhanced.dcm": enhanced(hu)}
    return cases


def common(syntax: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.Modality = "CT"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{MARKERS[0]}^X", MARKERS[1], MARKERS[2]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.Rows, ds.Columns = SHAPE[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    return ds


def series(hu: np.ndarray, write: Callable[[np.ndarray], Dataset]) -> Files:
    """A file a slice, named by its number; `write` takes stored values and returns a header with pixels."""
    files: Files = {}
    for z, plane in enumerate(hu):
        ds = write(plane.astype(np.uint16) + np.uint16(1024))
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
        ds.SOPInstanceUID = f"1.2.3.4.{z + 1}"
        ds.InstanceNumber, ds.ImagePositionPatient = z + 1, [-10, -8, -3 * z]
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        files[f"{z + 1}.dcm"] = _bytes(ds)
    return files


def enhanced(hu: np.ndarray) -> bytes:
    ds = common(uid.ExplicitVRLittleEndian)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.EnhancedCTImageStorage
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


def _native(syntax: str) -> Callable[[np.ndarray], Dataset]:
    def write(stored: np.ndarray) -> Dataset:
        ds = common(syntax)
        ds.PixelData = stored.astype(">u2" if syntax == uid.ExplicitVRBigEndian else "<u2").tobytes()
        return ds

    return write


def _compressed(syntax: str, **options: object) -> Callable[[np.ndarray], Dataset]:
    def write(stored: np.ndarray) -> Dataset:
        ds = common(uid.ExplicitVRLittleEndian)
        ds.PixelData = stored.astype("<u2").tobytes()
        ds.compress(syntax, generate_instance_uid=False, **options)
        return ds

    return write


def _lossless(syntax: str, predictor: int) -> Callable[[np.ndarray], Dataset]:
    def write(stored: np.ndarray) -> Dataset:
        ds = common(syntax)
        ds.PixelData = encapsulate([jpeg.lossless(stored, 12, predictor)])
        ds["PixelData"].VR = "OB"
        return ds

    return write


def _baseline(stored: np.ndarray) -> Dataset:
    ds = common(uid.JPEGBaseline8Bit)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.RescaleSlope = _EIGHT_BIT_SLOPE
    ds.PixelData = encapsulate([jpeg.baseline(stored // _EIGHT_BIT_SLOPE)])
    ds["PixelData"].VR = "OB"
    return ds


_WRITERS: dict[str, Callable[[np.ndarray], Dataset]] = {
    "implicit": _native(uid.ImplicitVRLittleEndian),
    "explicit": _native(uid.ExplicitVRLittleEndian),
    "big-endian": _native(uid.ExplicitVRBigEndian),
    "deflated": _native(uid.DeflatedExplicitVRLittleEndian),
    "rle": _compressed(uid.RLELossless),
    "jpeg-ls": _compressed(uid.JPEGLSLossless),
    "jpeg-ls-near": _compressed(uid.JPEGLSNearLossless, jls_error=NEAR),
    "jpeg-2000": _compressed(uid.JPEG2000Lossless),
    "jpeg-2000-lossy": _compressed(uid.JPEG2000, j2k_psnr=[60]),
    "jpeg-lossless": _lossless(uid.JPEGLosslessSV1, 1),
    "jpeg-process-14": _lossless(uid.JPEGLossless, 4),
    "jpeg-baseline": _baseline,
}
TOLERANCE_HU = {"jpeg-ls-near": NEAR, "jpeg-2000-lossy": 40, "jpeg-baseline": 400}
"""Largest difference of a sound reading from `patient`, by case; 0 for all others."""


def _item(**values: object) -> Sequence:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def _bytes(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
