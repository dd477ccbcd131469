"""Which organs the slices of the three labelled patients show, and those slices as the networks see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int

from voco2d.errors import ReadError
from voco2d.io.readers import read_volume
from voco2d.io.volume import Volume
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.organ_masks import OrganMask, read_mask
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume

SIDE = 96
"""Pixels of a slice in the plane."""
WINDOW_HU = (-175.0, 250.0)
PRESENT_MM2 = 100.0
"""A slice shows an organ from this area on."""
BLOCK_MM = 20.0
"""Depth of a block of neighbouring slices."""

AMOS_LABELS: Mapping[str, int] = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "pancreas": 10,
    "duodenum": 13,
}
"""Numbers of AMOS (Ji et al., arXiv 2206.08023)."""

TOTALSEGMENTATOR_LABELS: Mapping[str, int] = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "liver": 5,
    "stomach": 6,
    "aorta": 52,
    "inferior_vena_cava": 63,
    "pancreas": 7,
    "duodenum": 19,
}
"""The same organs in TotalSegmentator, version 2, task `total`."""


@dataclass(frozen=True)
class LabelledScan:
    """A scan with an organ mask, and where both lie below the folder of real data.

    Args:
        scan: File or folder of the scan.
        mask: Label file; it may have other axes.
        numbers: The number of each organ in it.
        never_seen: Patients of the store that pretraining leaves out when this one is tested: this one, and all whose
            files come from the same source, since nothing says that they are other people.
    """

    scan: str
    mask: str
    numbers: Mapping[str, int]
    never_seen: tuple[str, ...]


_TOTALSEGMENTATOR = ("example_ct", "jpeg2000_series", "aorta_ct_cropped")
PATIENTS: Mapping[str, LabelledScan] = {
    "amos_0001": LabelledScan(
        "abdomen/amos/amos_0001.nii.gz", "abdomen/amos/amos_0001_labels.nii.gz", AMOS_LABELS, ("amos_0001",)
    ),
    "example_ct": LabelledScan(
        "abdomen/totalsegmentator/example_ct.nii.gz",
        "abdomen/totalsegmentator/example_ct_labels.nii.gz",
        TOTALSEGMENTATOR_LABELS,
        _TOTALSEGMENTATOR,
    ),
    "jpeg2000_series": LabelledScan(
        "dicom/jpeg2000_series",
        "abdomen/totalsegmentator/example_ct_dicom_labels.nii.gz",
        TOTALSEGMENTATOR_LABELS,
        _TOTALSEGMENTATOR,
    ),
}


@dataclass(frozen=True)
class LabelledSlices:
    """The slices of a patient, superior to inferior.

    Args:
        images: (Z, H, W) intensities 0…1, the body's box resized in the plane; each is one slice of the scan.
        present: Organ → (Z,) whether the slice shows at least `PRESENT_MM2` of it.
        block: (Z,) number of the block of `BLOCK_MM` it lies in, from 0.
    """

    images: Float32[np.ndarray, "Z H W"]
    present: Mapping[str, Bool[np.ndarray, " Z"]]
    block: Int[np.ndarray, " Z"]


def read_slices(root: Path, patient: LabelledScan) -> LabelledSlices:
    """Read a scan and its mask below `root`.

    Raises:
        ReadError: One of them can't be read, or the mask lies on other voxels than the scan's.
    """
    volume = read_volume(root / patient.scan)
    z0, z1, *_ = prepare_volume(volume, PreprocessArgs(size=(1, SIDE, SIDE))).box
    prepared = prepare_volume(volume, PreprocessArgs(size=(z1 - z0, SIDE, SIDE)))  # depth kept: a slice stays a slice
    present = {}
    for organ, number in patient.numbers.items():
        area_mm2 = organ_area(read_mask(root / patient.mask, (number,)), volume)
        present[organ] = area_mm2[z0:z1] >= PRESENT_MM2
    block = np.floor(np.arange(z1 - z0) * volume.spacing_mm[0] / BLOCK_MM + 1e-6).astype(int)
    return LabelledSlices(window_hu(prepared.hu, *WINDOW_HU), present, block)


def organ_area(mask: OrganMask, volume: Volume) -> Float32[np.ndarray, " Z"]:
    """Measure how much of an organ lies in each slice of a volume, mm².

    Raises:
        ReadError: The mask's voxels don't lie on the volume's.
    """
    index = np.linalg.inv(volume.affine_lps) @ mask.affine_lps
    voxels = np.argwhere(mask.inside) @ index[:3, :3].T + index[:3, 3]
    nearest = np.rint(voxels).astype(int)
    off = np.abs(voxels - nearest).max(initial=0) > 0.01
    if off or (nearest < 0).any() or (nearest >= volume.hu.shape).any():
        raise ReadError(volume.source, "mask lies on other voxels than the scan's; resample it to the scan")
    _, height_mm, width_mm = volume.spacing_mm
    counts = np.bincount(nearest[:, 0], minlength=volume.hu.shape[0])
    area: Float32[np.ndarray, " Z"] = (counts * abs(height_mm * width_mm)).astype(np.float32)
    return area
