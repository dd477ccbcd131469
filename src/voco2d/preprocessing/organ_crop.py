"""The optional crop to the organs of interest, in place of the whole body."""

from pathlib import Path
from typing import Literal, TypeAlias

from voco2d.errors import ReadError, UsageError
from voco2d.io.volume import Volume
from voco2d.preprocessing.body import Box
from voco2d.preprocessing.organ_masks import find_mask, organ_box, read_mask
from voco2d.preprocessing.organ_segmentation import load_totalsegmentator, segment_organs

OrganCrop: TypeAlias = Literal["none", "masks", "totalsegmentator"]
"""Where organ masks come from: nowhere (no crop), a folder of files, or TotalSegmentator run on each series."""

NO_ORGAN_BOX = "organ box: none, "
"""What the note of a series begins with that could not be cropped to its organs."""


def check_organ_crop(organ_crop: OrganCrop, masks: Path | None) -> None:
    """Refuse, before work begins, what would fail or be ignored for each series.

    Args:
        organ_crop: As in `PreprocessArgs`.
        masks: The folder of masks, if one was given.

    Raises:
        UsageError: The folder is missing, or given where masks are not used.
        ConfigError: TotalSegmentator is asked for and not installed.
    """
    if masks is not None and organ_crop != "masks":
        raise UsageError(f"{masks}: a folder of masks is of use with organ_crop=masks only; organ_crop is {organ_crop}")
    if masks is not None and not masks.is_dir():
        raise UsageError(f"{masks}: no such folder of masks")
    if organ_crop == "totalsegmentator":
        load_totalsegmentator()


def find_organ_box(
    volume: Volume, organ_crop: OrganCrop, masks: Path | None, labels: tuple[int, ...], margin_mm: float
) -> tuple[Box | None, str]:
    """Return the box around the organs and a note, or None and the note that says why there is no box.

    Few series of a cohort may have a mask (206 of RSNA's 4,711), so a missing mask is noted and no error.

    Raises:
        ConfigError: TotalSegmentator is asked for and not installed.
    """
    try:
        if organ_crop == "totalsegmentator":
            mask = segment_organs(volume, labels)
        elif masks is None:
            return None, f"{NO_ORGAN_BOX}no folder of masks given"
        else:
            path = find_mask(masks, volume)
            if path is None:
                return None, f"{NO_ORGAN_BOX}no mask of this series"
            mask = read_mask(path, labels)
        box = organ_box(mask, volume, margin_mm)
    except ReadError as error:
        return None, f"{NO_ORGAN_BOX}{error.reason}"
    z0, z1, h0, h1, w0, w1 = box
    return box, f"organ box: {z1 - z0} x {h1 - h0} x {w1 - w0} voxels with {margin_mm:g} mm margin"
