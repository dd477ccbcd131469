"""Splits the slices of one DICOM series into stacks, each of which is one regular volume or close to one.

A series may hold more than one volume: scans before and after contrast, two slabs far apart, a change of matrix or
field of view, a scout among the slices. The rules, in this order:

1. Slices of a stack share matrix, pixel spacing and orientation.
2. Their normal is within `MAX_AXIAL_TILT_DEG` of the body's long axis; coronal, sagittal and steep reformats are not.
3. Slices of the same part of the body that were scanned or made another time are another pass (`dicom_passes`), told by
   acquisition number, temporal position, convolution kernel; then, where the pictures differ, by file (of multi-frame
   files), time of acquisition, time of content, the rest of what they were made with, and last by instance numbers.
   Passes that follow each other along the
   body are one scan. What is told by file, time or number and holds fewer positions than a volume needs (by number:
   fewer than half a pass), or the same pictures again, is no pass but duplicates.
4. Neighbours stand no further apart than `SLAB_GAP_MM` and ten times the usual distance.
5. First pixels lie on one line, to `OFF_LINE_MM` and two pixels; the line may lean with a tilted gantry.

A stack of fewer slices than a volume needs is not made: its files are rejected with what sets them apart.
"""

from collections.abc import Callable, Sequence

import numpy as np

from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_passes import MarkOf, Stack, split_doubled, split_named, split_ordered
from voco2d.io.dicom_series import MAX_AXIAL_TILT_DEG, SAME_POSITION_MM, axial_tilt_deg, difference, heights_mm, lean
from voco2d.io.source import Rejection

SLAB_GAP_MM = 50.0
OFF_LINE_MM = 2.0
_SLAB_GAP_STEPS = 10.0
_OFF_LINE_PIXELS = 2.0
_HALF = 0.5

Splitter = Callable[[Stack, int], list[Stack]]


def split_stacks(headers: Sequence[SliceHeader], min_slices: int) -> tuple[list[Stack], list[Rejection]]:
    """Apply the rules above.

    Args:
        headers: Slices of one series.
        min_slices: Fewest slices of a stack.

    Returns:
        Stacks, the largest first, and a rejection for each slice that is in none. Where no stack is large enough, the
        largest is returned all the same, so that its reader can say how many slices there were.
    """
    stacks: list[tuple[Stack, str]] = [([*headers], "")]
    for split, why in _RULES:
        stacks = [
            (part, before if len(parts) == 1 else why)
            for stack, before in stacks
            for parts in [split(stack, min_slices)]
            for part in parts
        ]
    axial = [entry for entry in stacks if axial_tilt_deg(entry[0][0]) <= MAX_AXIAL_TILT_DEG]
    axial.sort(key=lambda entry: -len(entry[0]))
    kept = [entry for entry in axial if len(entry[0]) >= min_slices] or axial[:1]
    first = (kept or [max(stacks, key=lambda entry: len(entry[0]))])[0][0]
    rejections = [
        Rejection(str(header.path), _reason(header, first[0], why))
        for stack, why in stacks
        if not any(stack is taken for taken, _ in kept) and stack is not first
        for header in stack
    ]
    return [stack for stack, _ in kept] or [first], rejections


def _reason(header: SliceHeader, first: SliceHeader, why: str) -> str:
    tilt = axial_tilt_deg(header)
    if tilt > MAX_AXIAL_TILT_DEG:
        return f"not axial: the slice normal is {tilt:.0f} degrees off the body's long axis"
    apart = difference(header, first)
    return f"{apart} differs from the series" if apart else f"{why or 'another stack'} of too few slices for a volume"


def _by_geometry(stack: Stack, _: int) -> list[Stack]:
    groups: list[Stack] = []
    for header in stack:
        # most slices belong where the one before them does
        for group in reversed(groups):
            if difference(header, group[0]) is None:
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _by_name(mark_of: MarkOf) -> Splitter:
    return lambda stack, _: split_named(stack, mark_of)


def _by_order(mark_of: MarkOf, min_share: float = 0.0) -> Splitter:
    return lambda stack, min_slices: split_ordered(stack, mark_of, min_slices, min_share)


def _by_doubles(mark_of: MarkOf) -> Splitter:
    return lambda stack, min_slices: split_doubled(stack, mark_of, min_slices)


def _file(header: SliceHeader) -> tuple[object, ...]:
    return ("",) if header.frame is None else (str(header.path),)


def _by_gap(stack: Stack, _: int) -> list[Stack]:
    heights = heights_mm(stack)
    order = np.argsort(-heights, kind="stable")
    steps = -np.diff(heights[order])
    real = steps[steps > SAME_POSITION_MM]
    if not real.size:
        return [stack]
    wide = np.flatnonzero(steps > max(SLAB_GAP_MM, _SLAB_GAP_STEPS * float(np.median(real))))
    return [[stack[i] for i in part] for part in np.split(order, wide + 1)]


def _by_line(stack: Stack, _: int) -> list[Stack]:
    heights = heights_mm(stack)
    places = np.array([header.position_mm for header in stack])
    if np.ptp(heights) <= SAME_POSITION_MM:
        return [stack]
    off = places - heights[:, None] * lean(stack)
    off -= np.median(off, axis=0)
    limit = max(OFF_LINE_MM, _OFF_LINE_PIXELS * max(stack[0].pixel_spacing_mm))
    on_line = np.linalg.norm(off, axis=1) <= limit
    parts = [[header for header, on in zip(stack, on_line, strict=True) if bool(on) is side] for side in (True, False)]
    return [part for part in parts if part]


_RULES: tuple[tuple[Splitter, str], ...] = (
    (_by_geometry, "a group of another geometry"),
    (_by_name(lambda header: (header.acquisition[0],)), "another acquisition at the same positions"),
    (_by_name(lambda header: (header.acquisition[1],)), "another temporal position"),
    (_by_name(lambda header: (header.kernel,)), "another convolution kernel at the same positions"),
    (_by_order(_file), "another multi-frame file at the same positions"),
    (_by_order(lambda header: header.acquired), "another time of acquisition at the same positions"),
    (_by_order(lambda header: header.created), "another time of content at the same positions"),
    (_by_doubles(lambda header: header.setting), "made otherwise at the same positions"),
    (_by_order(lambda header: (header.instance_number,), _HALF), "another run of instance numbers"),
    (_by_gap, "a slab far from the rest"),
    (_by_line, "slices off the line of the others"),
)
