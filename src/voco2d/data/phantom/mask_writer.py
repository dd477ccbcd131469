"""Organ masks as NIfTI, with the geometry of the DICOM files they belong to."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from voco2d.data.phantom.series import PhantomSeries


def write_masks(series: PhantomSeries, path: Path) -> None:
    """Write the organ masks of a series: 1 liver, 2 spleen, 3 left kidney, 4 right kidney, 5 bowel.

    Args:
        series: Whose masks.
        path: A file ending in `.nii`; axes are the patient's left, posterior and inferior, as in the series.
    """
    x, y, z = series.scan.origin_mm
    step, row, column = series.spacing_mm
    # DICOM's patient axes point to the left and the back, NIfTI's to the right and the front: x and y change sign.
    affine = np.diag([-column, -row, -step, 1.0])
    affine[:3, 3] = -x, -y, z
    header: Any = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm")
    organs = np.ascontiguousarray(series.organs.transpose(2, 1, 0))  # (W, H, Z)
    image: Any = nib.Nifti1Image(organs, affine, header)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)
