"""A CT series in memory: Hounsfield units on a regular grid, with its geometry and what was odd about it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco2d.errors import ReadError
from voco2d.types import HuVolume, Matrix, Millimetres3

MIN_SLICES = 5
"""Fewer slices are a localizer, a test shot or a remnant, not a volume."""

MAX_VOXELS = 2**31
"""Largest volume taken on, 4 GiB as int16; a header that promises more is damaged or no CT's."""

_SPACING_LIMITS_MM = (0.01, 100.0)


def is_usual_spacing(spacing_mm: Millimetres3) -> bool:
    """Say whether voxels may have this distance, millimetres, in a CT of a patient."""
    return all(_SPACING_LIMITS_MM[0] <= step <= _SPACING_LIMITS_MM[1] for step in spacing_mm)


def refuse_unusual_spacing(spacing_mm: Millimetres3, path: Path | str) -> None:
    """Refuse what no CT of a patient has.

    Raises:
        ReadError: As the reason says.
    """
    if not is_usual_spacing(spacing_mm):
        low, high = _SPACING_LIMITS_MM
        steps = " x ".join(f"{step:.3g}" for step in spacing_mm)
        raise ReadError(path, f"voxels {steps} mm apart, a CT's are {low:g} to {high:g} mm; mend the header")


@dataclass(frozen=True)
class Volume:
    """One CT series.

    Args:
        hu: (Z, H, W) int16 Hounsfield units of at least -1024; Z superior to inferior, H anterior to posterior,
            W patient's right to left.
        spacing_mm: Distance of neighbouring voxel centres along (Z, H, W), millimetres.
        direction: (3, 3); column i is the unit vector of array axis i in patient coordinates, LPS
            (x to the left, y to posterior, z to superior; DICOM PS3.3 C.7.6.2).
        origin_mm: LPS position of the centre of voxel [0, 0, 0], millimetres.
        patient_id: Identifier of the patient; never shown in a log.
        study_id: Study instance UID, or empty.
        series_id: Series instance UID, competition series number or file stem.
        source: Path of the file or folder it came from.
        notes: What was odd, one short phrase each, beginning with a word a machine can filter on
            ("gap: …", "duplicates: …", "windowed: …").
        extent_mm: Distance of the first slice's centre from the last one's where slices stand unevenly, else `None`.
        instance_numbers: For each slice (Z) its DICOM instance number, or empty.
        instance_uids: For each slice (Z) the SOP instance UID of its file, or empty.
        body_part: BodyPartExamined (0018,0015) of its middle slice, as stored, or empty. A hint only, since
            technicians choose it from a list in a hurry.
    """

    hu: HuVolume
    spacing_mm: Millimetres3
    direction: Matrix
    origin_mm: Millimetres3
    patient_id: str
    study_id: str
    series_id: str
    source: str
    notes: tuple[str, ...] = ()
    instance_numbers: tuple[int, ...] = ()
    extent_mm: float | None = None
    instance_uids: tuple[str, ...] = ()
    body_part: str = ""

    @property
    def coverage_mm(self) -> Millimetres3:
        """Extent along (Z, H, W), millimetres: voxel count × spacing; along uneven slices `extent_mm` + spacing."""
        depth, height, width = (count * step for count, step in zip(self.hu.shape, self.spacing_mm, strict=True))
        return (depth if self.extent_mm is None else self.extent_mm + self.spacing_mm[0], height, width)

    @property
    def affine_lps(self) -> Matrix:
        """(4, 4) map from voxel index (z, h, w) to LPS millimetres."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.origin_mm
        return affine
