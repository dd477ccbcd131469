"""A made-up patient whose HU are a function of the position in mm, sampled on any grid, written in any format."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from voco2d.io.volume import Volume


def hu_at(points_lps: np.ndarray) -> np.ndarray:
    """HU of the made-up patient at (..., 3) points in mm: -150 to 150, whole numbers at whole positions."""
    x, y, z = np.moveaxis(points_lps, -1, 0)
    return np.abs((3.0 * x + 20.0 * y + 7.0 * z) % 600.0 - 300.0) - 150.0


def sample(affine_lps: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    index = np.moveaxis(np.indices(shape), 0, -1)
    return hu_at(index @ affine_lps[:3, :3].T + affine_lps[:3, 3])


def assert_sampled_from_patient(volume: Volume, tolerance: float = 0.0) -> None:
    """Every voxel holds what the patient has at the point the volume's own affine gives, and the axes are in order."""
    expected = sample(volume.affine_lps, volume.hu.shape)
    assert np.abs(volume.hu - expected).max() <= tolerance + 1e-6
    direction = volume.direction
    assert direction[2, 0] < -0.7, "Z must run from superior to inferior"
    assert direction[1, 1] > 0.7, "H must run from anterior to posterior"
    assert direction[0, 2] > 0.7, "W must run from right to left"


@dataclass(frozen=True)
class SeriesSpec:
    """How `write_series` writes the patient; positions are of the first pixel of the first slice."""

    slices: int = 8
    shape: tuple[int, int] = (8, 10)
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0)
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    origin_mm: tuple[float, float, float] = (-10.0, -8.0, -20.0)
    step_mm: tuple[float, float, float] | None = None
    signed: bool = True
    bits: int = 16
    slope: float = 1
    intercept: float = 0
    rle: bool = False
    tags: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> "SeriesSpec":
        return replace(self, **changes)


def write_slice(path: Path, stored: np.ndarray, spec: SeriesSpec, position: np.ndarray, number: int) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "CT"
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "patient-7", "1.2.3", "1.2.3.4"
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [round(float(value), 6) for value in position]
    ds.ImageOrientationPatient = [round(float(value), 6) for value in spec.orientation]
    ds.PixelSpacing = list(spec.spacing_mm[1:])
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, spec.bits, spec.bits - 1
    ds.PixelRepresentation = int(spec.signed)
    ds.RescaleSlope, ds.RescaleIntercept = spec.slope, spec.intercept
    ds.PixelData = stored.astype("<i2" if spec.signed else "<u2").tobytes()
    for tag, value in spec.tags.items():
        if value is None:
            delattr(ds, tag)
        else:
            setattr(ds, tag, value)
    if spec.rle:
        ds.compress(RLELossless)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def slice_affine(spec: SeriesSpec) -> np.ndarray:
    """(4, 4) map from (slice, row, column) to LPS."""
    across, down = np.reshape(spec.orientation, (2, 3)).astype(float)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(across, down) * spec.spacing_mm[0] if spec.step_mm is None else spec.step_mm
    affine[:3, 1], affine[:3, 2] = down * spec.spacing_mm[1], across * spec.spacing_mm[2]
    affine[:3, 3] = spec.origin_mm
    return affine


class Patient:
    """What the tests need of the made-up patient, in one fixture."""

    Spec = SeriesSpec
    sample = staticmethod(sample)
    slice_affine = staticmethod(slice_affine)
    write_slice = staticmethod(write_slice)
    check = staticmethod(assert_sampled_from_patient)

    @staticmethod
    def write_series(folder: Path, spec: SeriesSpec, names: list[str] | None = None) -> list[Path]:
        """Write the patient's slices, one file each, and return the files in the order of writing."""
        affine = slice_affine(spec)
        hu = np.rint(sample(affine, (spec.slices, *spec.shape)))
        stored = np.rint((hu - spec.intercept) / spec.slope)
        paths = [folder / (names[i] if names else f"{i + 1}.dcm") for i in range(spec.slices)]
        for i, path in enumerate(paths):
            write_slice(path, stored[i], spec, affine[:3, 3] + i * affine[:3, 0], i + 1)
        return paths


@pytest.fixture(scope="session")
def patient() -> type[Patient]:
    return Patient
