"""From an array and its affine, as formats other than DICOM store them, to a `Volume`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from voco2d.errors import ReadError
from voco2d.io.orientation import Affine, obliquity_deg, split_affine, to_patient_axes
from voco2d.io.source import ReadArgs, Source
from voco2d.io.volume import Volume, refuse_unusual_spacing
from voco2d.types import HuVolume

_NOTABLE_DEG = 1.0

ToHounsfield = Callable[[Shaped[np.ndarray, "Z H W"]], tuple[HuVolume, tuple[str, ...]]]
"""Turns the voxels of a file into HU with notes, or refuses them."""


@dataclass(frozen=True)
class FileIds:
    """What a file itself says of who and what it shows; empty where it says nothing.

    Args:
        patient: Identifier of the patient.
        study: Of the study.
        series: Of the series.
    """

    patient: str = ""
    study: str = ""
    series: str = ""


def array_volume(
    array: Shaped[np.ndarray, "a b c"],
    affine_lps: Affine,
    source: Source,
    args: ReadArgs,
    to_hounsfield: ToHounsfield,
    ids: FileIds,
    notes: Sequence[str] = (),
) -> Volume:
    """Turn an array into patient axes and Hounsfield units and lay out what is known of it.

    Args:
        array: Voxels in any axis order.
        affine_lps: (4, 4) map from its voxel index to LPS millimetres; invertible.
        source: Where it comes from; its ids come before those of the file.
        args: How to read.
        to_hounsfield: Called with the turned array.
        ids: Of the file.
        notes: What was odd so far.

    Raises:
        ReadError: Too few axial slices, a spacing that no CT has, or as `to_hounsfield`.
    """
    turned, affine = to_patient_axes(array, affine_lps)
    if turned.shape[0] < args.min_slices:
        raise ReadError(source.files[0], f"{turned.shape[0]} axial slices, a volume needs at least {args.min_slices}")
    spacing_mm, direction, origin_mm = split_affine(affine)
    refuse_unusual_spacing(spacing_mm, source.files[0])
    hu, value_notes = to_hounsfield(turned)
    angle = obliquity_deg(affine)
    oblique = (f"oblique: {angle:.1f} deg",) if angle > _NOTABLE_DEG else ()
    return Volume(
        hu=hu,
        spacing_mm=spacing_mm,
        direction=direction,
        origin_mm=origin_mm,
        patient_id=source.patient_id or ids.patient,
        study_id=source.study_id or ids.study,
        series_id=source.series_id or ids.series,
        source=str(source.path),
        notes=(*notes, *oblique, *value_notes),
    )
