"""Tells CT slices from the other pictures that a CT series may hold."""

import re
from pathlib import Path

from voco2d.errors import ReadError
from voco2d.io.dicom_elements import modality_word, text
from voco2d.io.dicom_plain import Header

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_OTHER_PICTURES = {
    frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}): "localizer",
    frozenset({"DOSE", "SCREENSAVE", "SCREEN", "PROTOCOL"}): "dose or protocol page",
    frozenset(
        {"MIP", "MINIP", "MAXIMUM", "MINIMUM", "AVERAGE", "MEAN", "PROJECTION", "VRT", "SSD", "RENDERED"}
    ): "projection or rendering of a volume",
    frozenset({"SUBTRACTION", "DIVISION", "MULTIPLICATION", "DEVIATION", "QUANTITY"}): "calculated from other pictures",
}
_SLICE_TECHNIQUES = ("", "NONE", "MPR", "MIXED")
"""Volume based calculation techniques (PS3.3 C.8.16.2.1.2) that leave a plane slice of a volume."""

_HU_TYPES = ("", "HU", "HU_MOD", "US")
"""Rescale types (PS3.3 C.11.1.1.2) that are or may be Hounsfield units; US is "unspecified"."""


def refuse_other_images(header: Header, path: Path) -> None:
    """Refuse what is no CT picture of a slice, by modality, SOP class (PS3.4 B.5) and what `other_picture` looks at.

    Raises:
        ReadError: For other modalities, secondary captures, localizers, dose pages, projections of a volume and maps.
    """
    modality = modality_word(header)
    if modality not in ("CT", ""):
        raise ReadError(path, f"modality {modality}, not CT")
    if text(header, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        raise ReadError(path, "secondary capture, not a CT slice")
    found = other_picture(
        text(header, "ImageType"), text(header, "VolumeBasedCalculationTechnique"), text(header, "RescaleType")
    )
    if found is not None:
        raise ReadError(path, found)


def other_picture(image_type: str, technique: str = "", rescale_type: str = "") -> str | None:
    """Say what keeps a picture from being a slice of HU, or `None`.

    Args:
        image_type: Values of ImageType (PS3.3 C.8.2.1.1.1), or of a frame's FrameType (C.8.16.1), joined in any way.
        technique: VolumeBasedCalculationTechnique of an enhanced file or frame.
        rescale_type: RescaleType.
    """
    words = set(re.split(r"[^A-Z0-9]+", image_type.upper()))
    for marks, what in _OTHER_PICTURES.items():
        if words & marks:
            return f"{what}, not a slice of a volume"
    if technique.upper() not in _SLICE_TECHNIQUES:
        return "projection or rendering of a volume, not a slice of a volume"
    if rescale_type.upper() not in _HU_TYPES:
        return "its RescaleType says that the values are no Hounsfield units"
    return None
