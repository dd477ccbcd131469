"""Reads one stack of a DICOM series, from a file a slice or from enhanced multi-frame files, into a `Volume`."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from voco2d.errors import ReadError
from voco2d.io.dicom_frames import read_headers
from voco2d.io.dicom_grid import even_out, in_plane_offsets, shear
from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_pixels import PixelFile, SlicePixels
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.io.dicom_series import (
    MAX_AXIAL_TILT_DEG,
    NOTABLE_DEG,
    axial_tilt_deg,
    commonest,
    heights_mm,
    is_uneven,
    stack_affine,
    stack_notes,
    stack_positions,
    tilt_deg,
    usual_distance_mm,
)
from voco2d.io.dicom_stacks import split_stacks
from voco2d.io.hounsfield import HU_FLOOR
from voco2d.io.orientation import Affine, split_affine, to_patient_axes
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.spool import allocate, release
from voco2d.io.volume import MAX_VOXELS, Volume
from voco2d.types import HuVolume

_RELEASE_EVERY = 64


@dataclass
class _Stack:
    """What has been decoded: hu[i] is the slice of used[i]; slices stand from superior to inferior."""

    hu: HuVolume
    used: list[SliceHeader]
    rejections: list[Rejection]
    duplicates: int = 0
    inverted: int = 0
    padded: int = 0


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
        headers, rejections = _read_headers(source)
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
            rejections += _decode(positions).rejections  # a cut file is the better reason
            _refuse(len(positions), args.min_slices, source, rejections)
        voxels = len(positions) * kept[0].shape[0] * kept[0].shape[1]
        if voxels > MAX_VOXELS:
            raise ReadError(source.path, f"the headers promise {voxels} voxels, {MAX_VOXELS} are the limit")
        stack = _decode(positions)
    stack.rejections[:0] = rejections
    if len(stack.used) < args.min_slices:
        _refuse(len(stack.used), args.min_slices, source, stack.rejections)
    notes = _notes(stack, source)
    hu, affine = _rectify(stack, args, notes)
    return _assemble(source, hu, affine, stack.used, tuple(notes)), tuple(stack.rejections)


def _read_headers(source: Source) -> tuple[list[SliceHeader], list[Rejection]]:
    headers: list[SliceHeader] = []
    rejections: list[Rejection] = []
    for path in source.files:
        try:
            headers += read_headers(path)
        except ReadError as error:
            rejections.append(Rejection(error.path, error.reason))
    if not headers:
        raise ReadError(source.path, commonest(rejections) if rejections else "no files")
    return headers, rejections


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
        reason += f"; {len(rejections)} files not used: {commonest(rejections)}"
    elif len(source.files) == 1:
        reason += "; give the folder of the whole series"
    raise ReadError(source.path, reason)


def _decode(positions: Sequence[Sequence[SliceHeader]]) -> _Stack:
    """Decode one slice a position; a position none of whose files can be decoded falls out."""
    stack = _Stack(allocate((len(positions), *positions[0][0].shape)), [], [])
    with ExitStack() as open_files:
        frames: dict[Path, PixelFile] = {}
        for same in positions:
            taken = len(stack.used)
            for header in same:
                if len(stack.used) > taken:
                    stack.duplicates += 1
                    stack.rejections.append(
                        Rejection(str(header.path), "duplicate: another slice has the same position")
                    )
                    continue
                try:
                    pixels = _read_pixels(header, frames, open_files)
                except ReadError as error:
                    stack.rejections.append(Rejection(error.path, error.reason))
                    continue
                np.maximum(pixels.hu, HU_FLOOR, out=stack.hu[taken])
                stack.used.append(header)
                stack.inverted += pixels.inverted
                stack.padded += pixels.padded > 0
            if taken % _RELEASE_EVERY == 0:
                release(stack.hu)
    stack.hu = stack.hu[: len(stack.used)]
    return stack


def _read_pixels(header: SliceHeader, frames: dict[Path, PixelFile], open_files: ExitStack) -> SlicePixels:
    """Decode one slice; a multi-frame file stays open for its next frame."""
    if header.frame is None:
        with PixelFile(header.path) as file:
            return _checked(file.slice_pixels(), header)
    if header.path not in frames:
        frames[header.path] = open_files.enter_context(PixelFile(header.path))
    return _checked(frames[header.path].slice_pixels(header.frame), header)


def _checked(pixels: SlicePixels, header: SliceHeader) -> SlicePixels:
    if pixels.hu.shape != header.shape:
        raise ReadError(header.path, "the pixels have another size than the header says")
    return pixels


def _notes(stack: _Stack, source: Source) -> list[str]:
    notes = stack_notes(stack.used)
    part, parts = source.part
    if parts > 1:
        notes.append(f"split: part {part} of {parts} of the series")
    if stack.duplicates:
        notes.append(f"duplicates: {stack.duplicates}")
    if len(stack.rejections) > stack.duplicates:
        notes.append(f"rejected: {len(stack.rejections) - stack.duplicates} files of the series")
    if stack.inverted:
        notes.append(f"inverted: {stack.inverted} slices stored as a negative")
    if stack.padded:
        notes.append(f"padding: {stack.padded} slices with padding that is not air")
    if stack.used[0].frame is not None:
        notes.append("multiframe: enhanced CT")
    return notes


def _rectify(stack: _Stack, args: ReadArgs, notes: list[str]) -> tuple[HuVolume, Affine]:
    """Bring the slices onto a rectangular grid as far as `args` asks for it, and note what was done."""
    used, hu = stack.used, stack.hu
    affine = stack_affine(used)
    tilt = tilt_deg(used)
    if tilt > NOTABLE_DEG:
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
        hu = even
    return hu, affine


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
    known = len(pixels) == len(used) and None not in numbers
    return Volume(
        hu=turned,
        spacing_mm=spacing_mm,
        direction=direction,
        origin_mm=origin_mm,
        patient_id=source.patient_id or used[0].patient_id or folder,
        study_id=used[0].study_id,
        series_id=series_id if parts == 1 else f"{series_id}-{part}",
        source=str(source.path),
        notes=notes,
        instance_numbers=tuple(number for number in numbers if number is not None) if known else (),
    )
