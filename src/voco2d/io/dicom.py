"""Reads one stack of a DICOM series, from a file a slice or from enhanced multi-frame files, into a `Volume`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int16

from voco2d.errors import ReadError
from voco2d.io.dicom_decode import DecodedStack, decode
from voco2d.io.dicom_frames import read_headers
from voco2d.io.dicom_grid import even_out, in_plane_offsets, shear
from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.io.dicom_series import (
    MAX_AXIAL_TILT_DEG,
    axial_tilt_deg,
    commonest,
    extent_mm,
    heights_mm,
    is_tilted,
    is_uneven,
    stack_affine,
    stack_notes,
    stack_positions,
    tilt_deg,
    usual_distance_mm,
)
from voco2d.io.dicom_stacks import split_stacks
from voco2d.io.orientation import Affine, split_affine, to_patient_axes
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import MAX_VOXELS, Volume, refuse_unusual_spacing
from voco2d.types import HuVolume


def read_dicom(source: Source, args: ReadArgs) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read the stack that `source` names, sorted by projected position.

    Of slices at one position the one with the lowest instance number, then file name, that can be decoded is kept.
    Slices of a tilted gantry are sheared onto a rectangular grid unless `args` says otherwise; missing slices are
    interpolated only when it says so.

    Returns:
        The volume, and the files of the series that are not in it.

    Raises:
        ReadError: When fewer than `args.min_slices` positions can be read, or the slices are not axial CT.
    """
    with quiet_pydicom():
        headers, rejections, left_out = _read_headers(source)
        stacks, strays = split_stacks(headers, args.min_slices)
        if source.stack >= len(stacks):
            raise ReadError(source.path, "the file no longer holds the stack that was found in it")
        kept = stacks[source.stack]
        rejections += strays
        if len(source.files) > 1:
            rejections += _other_stacks(stacks, kept)
        tilt = axial_tilt_deg(kept[0])
        if tilt > MAX_AXIAL_TILT_DEG:
            raise ReadError(source.path, f"not axial: the slice normal is {tilt:.0f} degrees off the body's long axis")
        positions = stack_positions(kept)
        if len(positions) < args.min_slices:
            rejections += decode(positions).rejections  # a cut file is the better reason
            _refuse(len(positions), args.min_slices, source, rejections)
        across_mm, down_mm = kept[0].pixel_spacing_mm
        refuse_unusual_spacing((usual_distance_mm([same[0] for same in positions]), across_mm, down_mm), source.path)
        voxels = len(positions) * kept[0].shape[0] * kept[0].shape[1]
        if voxels > MAX_VOXELS:
            raise ReadError(source.path, f"the headers promise {voxels} voxels, {MAX_VOXELS} are the limit")
        stack = decode(positions)
    stack.rejections[:0] = rejections
    if len(stack.used) < args.min_slices:
        _refuse(len(stack.used), args.min_slices, source, stack.rejections)
    notes = _notes(stack, source) + [f"rejected: {entry.reason}" for entry in left_out]
    hu, affine, extent = _rectify(stack, args, notes)
    volume = replace(_assemble(source, hu, affine, stack.used, tuple(notes)), extent_mm=extent)
    # the volumes of one file are many, but its frames are left out once
    return volume, (*stack.rejections, *(left_out if source.stack == 0 else ()))


def _read_headers(source: Source) -> tuple[list[SliceHeader], list[Rejection], list[Rejection]]:
    """Headers of all slices, rejected files, and what was left out of files that are read."""
    headers: list[SliceHeader] = []
    rejections: list[Rejection] = []
    left_out: list[Rejection] = []
    for path in source.files:
        try:
            found, frames = read_headers(path)
        except ReadError as error:
            rejections.append(Rejection(error.path, error.reason))
            continue
        headers += found
        left_out += frames
    if not headers:
        raise ReadError(source.path, commonest(rejections) if rejections else "no files")
    return headers, rejections, left_out


def _other_stacks(stacks: Sequence[Sequence[SliceHeader]], kept: Sequence[SliceHeader]) -> list[Rejection]:
    """Reject what a source that was not split by discovery holds beside the stack that is read."""
    reason = f"another stack of the series; the one of {len(kept)} slices is read"
    return [Rejection(str(header.path), reason) for stack in stacks if stack is not kept for header in stack]


def _refuse(count: int, least: int, source: Source, rejections: Sequence[Rejection]) -> None:
    files = "1 file" if len(source.files) == 1 else f"{len(source.files)} files"
    reason = f"{count} slice position{'' if count == 1 else 's'} in {files}, a volume needs at least {least}"
    if rejections and len(source.files) == 1:
        reason = f"{rejections[0].reason}; {reason}"
    elif rejections:
        count_unused = "1 file" if len(rejections) == 1 else f"{len(rejections)} files"
        reason += f"; {count_unused} not used: {commonest(rejections)}"
    elif len(source.files) == 1:
        reason += "; give the folder of the whole series"
    raise ReadError(source.path, reason)


def _notes(stack: DecodedStack, source: Source) -> list[str]:
    notes = stack_notes(stack.used)
    part, parts = source.part
    if parts > 1:
        notes.append(f"split: part {part} of {parts} of the series")
    if stack.duplicates:
        unlike = f", {stack.unlike} of them with another picture" if stack.unlike else ""
        notes.append(f"duplicates: {stack.duplicates}{unlike}")
    if len(stack.rejections) > stack.duplicates:
        notes.append(f"rejected: {len(stack.rejections) - stack.duplicates} files of the series")
    if stack.inverted:
        notes.append(f"inverted: {stack.inverted} slices stored as a negative")
    if stack.padded:
        notes.append(f"padding: {stack.padded} slices with padding that is not air")
    if stack.used[0].frame is not None:
        notes.append("multiframe: enhanced CT")
    return notes


def _rectify(stack: DecodedStack, args: ReadArgs, notes: list[str]) -> tuple[HuVolume, Affine, float | None]:
    """Bring the slices onto a rectangular grid as far as `args` asks for it, and note what was done.

    Returns:
        The volume, its affine, and the true distance of its first slice from its last where that is not even.
    """
    used, hu = stack.used, stack.hu
    affine = stack_affine(used)
    tilt = tilt_deg(used)
    extent = extent_mm(used) if is_uneven(used) else None
    if is_tilted(used):
        notes.insert(0, f"tilt: {tilt:.1f} deg, {'corrected by shear' if args.correct_tilt else 'not corrected'}")
        if args.correct_tilt:
            positions = np.array([header.position_mm for header in used])
            offsets = in_plane_offsets(positions, used[0].orientation, used[0].pixel_spacing_mm)
            hu, before = shear(hu, offsets)
            affine[:3, 3] -= affine[:3, 1] * before[0] + affine[:3, 2] * before[1]
    if args.fill_gaps and is_uneven(used):
        step_mm = usual_distance_mm(used)
        even, _ = even_out(hu, heights_mm(used), step_mm)
        notes.append(f"resampled: {len(hu)} slices to {len(even)} of {step_mm:.4g} mm distance")
        hu, extent = even, None
    return hu, affine, extent


def _assemble(
    source: Source,
    pixels: Int16[np.ndarray, "Z H W"],
    affine: Affine,
    used: Sequence[SliceHeader],
    notes: tuple[str, ...],
) -> Volume:
    turned, affine = to_patient_axes(pixels, affine)
    spacing_mm, direction, origin_mm = split_affine(affine)
    folder = used[0].path.absolute().parent.name
    part, parts = source.part
    series_id = source.series_id or used[0].series_id or folder
    numbers = [header.instance_number for header in used]
    uids = tuple(header.instance_uid for header in used)
    as_stored = len(pixels) == len(used)
    known = as_stored and None not in numbers
    return Volume(
        hu=turned,
        spacing_mm=spacing_mm,
        direction=direction,
        origin_mm=origin_mm,
        patient_id=source.patient_id or used[0].patient_id or folder,
        study_id=source.study_id or used[0].study_id,
        series_id=series_id if parts == 1 else f"{series_id}-{part}",
        source=str(source.path),
        notes=notes,
        instance_numbers=tuple(number for number in numbers if number is not None) if known else (),
        instance_uids=uids if as_stored and all(uids) else (),
        body_part=used[len(used) // 2].body_part,
    )
