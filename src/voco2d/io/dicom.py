"""Reads one DICOM series, one file a slice, into a `Volume`."""

from collections.abc import Sequence

import numpy as np

from voco2d.errors import ReadError
from voco2d.io.dicom_header import SliceHeader, quiet_pydicom, read_slice_header
from voco2d.io.dicom_pixels import read_slice_hu
from voco2d.io.dicom_series import (
    MAX_AXIAL_TILT_DEG,
    axial_tilt_deg,
    commonest,
    keep_majority,
    stack_affine,
    stack_notes,
    stack_positions,
)
from voco2d.io.hounsfield import to_int16
from voco2d.io.orientation import split_affine, to_patient_axes
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import MAX_VOXELS, Volume
from voco2d.types import HuVolume


def read_dicom(source: Source, args: ReadArgs) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read the series whose files `source` lists, sorted by projected position.

    Slices are neither resampled nor sheared; gaps and gantry tilt are noted. Of slices at one position the one with
    the lowest instance number, then file name, that can be decoded is kept.

    Returns:
        The volume, and the files of the series that are not in it.

    Raises:
        ReadError: When fewer than `args.min_slices` positions can be read, or the slices are not axial CT.
    """
    with quiet_pydicom():
        headers, rejections = _read_headers(source)
        kept, strays = keep_majority(headers)
        rejections += strays
        tilt = axial_tilt_deg(kept[0])
        if tilt > MAX_AXIAL_TILT_DEG:
            raise ReadError(source.path, f"not axial: the slice normal is {tilt:.0f} degrees off the body's long axis")
        stacks = stack_positions(kept)
        _require(len(stacks), args.min_slices, source, rejections)
        voxels = len(stacks) * kept[0].shape[0] * kept[0].shape[1]
        if voxels > MAX_VOXELS:
            raise ReadError(source.path, f"the headers promise {voxels} voxels, {MAX_VOXELS} are the limit")
        pixels, used, unread = _decode(stacks)
    duplicates = [reject for reject in unread if reject.reason.startswith("duplicate")]
    rejections += unread
    _require(len(used), args.min_slices, source, rejections)
    return _assemble(source, pixels, used, _notes(used, len(duplicates), len(rejections))), tuple(rejections)


def _read_headers(source: Source) -> tuple[list[SliceHeader], list[Rejection]]:
    headers: list[SliceHeader] = []
    rejections: list[Rejection] = []
    for path in source.files:
        try:
            headers.append(read_slice_header(path))
        except ReadError as error:
            rejections.append(Rejection(error.path, error.reason))
    if not headers:
        raise ReadError(source.path, commonest(rejections) if rejections else "no files")
    return headers, rejections


def _require(count: int, least: int, source: Source, rejections: Sequence[Rejection]) -> None:
    if count >= least:
        return
    files = "1 file" if len(source.files) == 1 else f"{len(source.files)} files"
    reason = f"{count} slice position{'' if count == 1 else 's'} in {files}, a volume needs at least {least}"
    if rejections:
        reason += f"; {len(rejections)} files not used: {commonest(rejections)}"
    elif len(source.files) == 1:
        reason += "; give the folder of the whole series"
    raise ReadError(source.path, reason)


def _decode(stacks: Sequence[Sequence[SliceHeader]]) -> tuple[HuVolume, list[SliceHeader], list[Rejection]]:
    """Decode one slice a position; a position none of whose files can be decoded falls out."""
    hu = np.empty((len(stacks), *stacks[0][0].shape), np.int16)
    used: list[SliceHeader] = []
    rejections: list[Rejection] = []
    for stack in stacks:
        taken = len(used)
        for header in stack:
            if len(used) > taken:
                rejections.append(Rejection(str(header.path), "duplicate: another file has the same position"))
                continue
            try:
                hu[taken] = read_slice_hu(header.path)
            except ReadError as error:
                rejections.append(Rejection(error.path, error.reason))
            else:
                used.append(header)
    return hu[: len(used)], used, rejections


def _notes(used: Sequence[SliceHeader], duplicates: int, rejected: int) -> tuple[str, ...]:
    notes = stack_notes(used)
    if duplicates:
        notes.append(f"duplicates: {duplicates}")
    if rejected > duplicates:
        notes.append(f"rejected: {rejected - duplicates} files of the series")
    return tuple(notes)


def _assemble(source: Source, pixels: HuVolume, used: Sequence[SliceHeader], notes: tuple[str, ...]) -> Volume:
    turned, affine = to_patient_axes(pixels, stack_affine(used))
    spacing_mm, direction, origin_mm = split_affine(affine)
    folder = used[0].path.absolute().parent.name
    numbers = [header.instance_number for header in used]
    return Volume(
        hu=to_int16(turned),
        spacing_mm=spacing_mm,
        direction=direction,
        origin_mm=origin_mm,
        patient_id=source.patient_id or used[0].patient_id or folder,
        study_id=used[0].study_id,
        series_id=source.series_id or used[0].series_id or folder,
        source=str(source.path),
        notes=notes,
        instance_numbers=tuple(number for number in numbers if number is not None) if None not in numbers else (),
    )
