"""Organ masks from an installed TotalSegmentator, which is no dependency of this package.

Untested against the real package, whose weights have to be downloaded: the tests put a stand-in in its place that
keeps to the documented call `totalsegmentator(input, output, ml=True, fast=True, quiet=True)` of version 2.
"""

import importlib
import tempfile
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np

from voco2d.errors import ConfigError, ReadError
from voco2d.io.orientation import swap_lps_ras
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_masks import TOTALSEGMENTATOR_LABELS, OrganMask, read_mask

_MODULE = "totalsegmentator.python_api"


def load_totalsegmentator() -> ModuleType:
    """Import TotalSegmentator's Python interface.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(_MODULE)
    except ImportError as error:
        raise ConfigError(
            "organ_crop is totalsegmentator, which can't be imported; install it with "
            "`pip install TotalSegmentator`, or choose organ_crop=masks or none"
        ) from error


def segment_organs(volume: Volume, labels: tuple[int, ...] = ()) -> OrganMask:
    """Run TotalSegmentator's fast model on `volume` by way of a temporary NIfTI file without any identifier.

    Args:
        volume: A series as a reader gives it.
        labels: Class numbers of the organs of interest; `TOTALSEGMENTATOR_LABELS` if empty.

    Raises:
        ConfigError: TotalSegmentator is not installed.
        ReadError: It wrote no mask that can be read.
    """
    api = load_totalsegmentator()
    with tempfile.TemporaryDirectory(prefix="voco2d-") as folder:
        scan, segmented = Path(folder) / "ct.nii", Path(folder) / "organs.nii.gz"
        # Transposed, so that the file's fastest axis is the array's and no copy of the volume is made.
        affine = swap_lps_ras(volume.affine_lps)[:, [2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(np.transpose(volume.hu), affine), scan)  # type: ignore[no-untyped-call]
        api.totalsegmentator(scan, segmented, ml=True, fast=True, quiet=True)
        if not segmented.is_file():
            raise ReadError(volume.source, "TotalSegmentator wrote no mask")
        try:
            return read_mask(segmented, labels or tuple(TOTALSEGMENTATOR_LABELS.values()))
        except ReadError as error:
            raise ReadError(volume.source, error.reason) from error
