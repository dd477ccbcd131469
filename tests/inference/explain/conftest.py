"""Scans with a bright mark at a place that is known in millimetres."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from voco2d.io.readers import read_volume
from voco2d.io.volume import Volume

SPACING = (2.0, 2.0, 3.0)
MARK = (22, 38, 27)
"""Its middle voxel in an array that runs to right, front and head."""


@pytest.fixture
def mark_lps() -> np.ndarray:
    """Where the mark's middle is."""
    x, y, z = np.multiply(MARK, SPACING) + np.array([-60, -70, 100])
    return np.array([-x, -y, z])


@pytest.fixture
def marked_scan(tmp_path: Path) -> Callable[[str], Volume]:
    """Read a cylinder of water with a bright mark from a NIfTI file whose axes run as a code says."""

    def make(code: str = "RAS") -> Volume:
        x, y, _ = np.indices((60, 60, 40))
        hu = np.where((x - 30) ** 2 + (y - 30) ** 2 < 25**2, 0, -1000).astype(np.int16)
        hu[20:25, 36:41, 26:29] = 2000
        affine = np.diag([*SPACING, 1.0])
        affine[:3, 3] = (-60, -70, 100)
        image = nib.Nifti1Image(hu, affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(code))
        nib.save(image.as_reoriented(turn), tmp_path / "scan.nii.gz")
        return read_volume(tmp_path / "scan.nii.gz")

    return make
