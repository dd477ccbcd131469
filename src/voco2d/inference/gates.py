"""Says why a series should not be graded: not CT, not axial, not an abdomen, too little of it, or unlike the training.

Every rule is a length, a share or a count with its limit; `docs/prediction.md` tells on which scans limits were set.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from voco2d.inference.results import Finding
from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import Prepared, PreprocessArgs, prepare_volume
from voco2d.quality.anatomy import UNKNOWN, Anatomy, find_anatomy
from voco2d.quality.body_grid import BODY_HU, BodyGrid, body_grid, cut_share, prepared_spacing_mm
from voco2d.quality.flags import AIR_HU, FULL_BODY, MIN_TISSUE_SHARE
from voco2d.quality.limits import is_limited, middle_slices
from voco2d.quality.liver_side import find_liver_side
from voco2d.types import Millimetres3

GATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "not_ct": "the values are not those of a CT of a body",
        "not_axial": "the slices are not axial",
        "not_abdomen": "head, chest, shoulders or legs, with at most a rim of abdomen",
        "too_few_slices": "too few slices, or slices too far apart",
        "incomplete_coverage": "too little of the abdomen is in view",
        "far_from_training": "unlike the volumes the networks were trained on",
        "header": "what the file says of itself",
    }
)
"""The gates and what they mean, in the order in which findings are told; `header` only ever remarks."""

MIN_SLICES: Final = 20
COARSE_STEP_MM: Final = 10.0
MAX_STEP_MM: Final = 20.0
MIN_COVERAGE_MM: Final = 100.0
MIN_ABDOMEN_MM: Final = 70.0
MAX_MISSING_MM: Final = 20.0
MIN_FIELD_MM: Final = 250.0
CUT_SHARE: Final = 0.5
MAX_TILT_DEG: Final = 30.0
MAX_PIXEL_RATIO: Final = 1.5

_COARSE: Final = PreprocessArgs(size=(80, 96, 96))
"""How a volume is prepared for the gates where the networks' own preparation can't show the body's outline."""
_FINEST_NEEDED_MM: Final = (10.0, 6.0, 6.0)
_OTHER_PARTS: Final = frozenset({"HEAD", "BRAIN", "SKULL", "NECK", "CHEST", "LUNG", "THORAX", "HEART", "LEG", "KNEE"})
"""Values of BodyPartExamined (PS3.16 annex L) that name no abdomen; others may be any text and are not repeated."""


def find_unreadable(volume: Volume) -> list[Finding]:
    """Judge the geometry alone, before anything is prepared.

    Args:
        volume: As read.
    """
    if is_without_geometry(volume):
        text = "no geometry is stored: orientation, coverage and body part were not checked"
        return [Finding("incomplete_coverage", text, refuses=False)]
    return [*_orientation(volume), *_slices(volume)]


def is_without_geometry(volume: Volume) -> bool:
    """Whether lengths of this volume mean nothing."""
    return any(note.startswith("no geometry") for note in volume.notes)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Put what refuses before what only remarks, each in the order of `GATES`."""
    order = list(GATES)
    return tuple(sorted(findings, key=lambda finding: (not finding.refuses, order.index(finding.gate))))


def find_in_body(volume: Volume, prepared: Prepared, args: PreprocessArgs, *, is_axial: bool = True) -> list[Finding]:
    """Judge what is in view: tissue, body part, coverage, side of the liver.

    Args:
        volume: As read.
        prepared: The networks' preparation of it, which is used where it shows the whole body finely enough.
        args: Settings of that preparation.
        is_axial: Whether slices are axial; of others nothing but the tissue is judged.
    """
    spacing_mm = prepared_spacing_mm(volume, prepared)
    if not _shows_body(args, spacing_mm):
        prepared = prepare_volume(volume, _COARSE)
        spacing_mm = prepared_spacing_mm(volume, prepared)
    grid = body_grid(prepared, spacing_mm)
    is_windowed = "windowed" in {note.partition(":")[0] for note in volume.notes} or is_limited(
        middle_slices(volume, prepared)
    )
    if is_windowed:
        text = "values were limited to a window before: lungs and bones, and so the body part, were not checked"
        return [Finding("not_ct", text, refuses=False)]
    findings = list(_tissue(grid))
    if is_without_geometry(volume) or not is_axial:
        return findings
    anatomy = find_anatomy(grid)
    findings += [*_body_part(anatomy), *_field(volume, grid)]
    if find_liver_side(grid).side == "left":
        findings.append(Finding("not_axial", "the liver seems to lie on the left: mirrored, or situs inversus", False))
    return findings


def find_far(ratios: Sequence[float]) -> list[Finding]:
    """Judge the distance from the training data.

    Args:
        ratios: Each network's distance as a share of its threshold; empty where none was fitted.
    """
    if not ratios:
        text = "the distance from the training data was not checked: nothing was fitted with these weights"
        return [Finding("far_from_training", text, refuses=False)]
    middle = float(np.median(ratios))
    if middle <= 1:
        return []
    text = f"unlike the training data: feature distance {middle:.2f} times its limit"
    return [Finding("far_from_training", text, refuses=True)]


def find_in_header(body_part: str, findings: Sequence[Finding]) -> list[Finding]:
    """Remark on a header that names another part of the body; it is often wrong, so it never refuses.

    What the picture shows is left to the other gates, which can't always tell.

    Args:
        body_part: DICOM BodyPartExamined, or empty.
        findings: Those so far, which may agree.
    """
    word = body_part.strip().upper()
    if word not in _OTHER_PARTS or any(finding.gate == "not_abdomen" and finding.refuses for finding in findings):
        return []
    return [Finding("header", f"the header says {word}", refuses=False)]


def _orientation(volume: Volume) -> Iterator[Finding]:
    tilt = float(np.degrees(np.arccos(np.clip(abs(volume.direction[2, 0]), 0.0, 1.0))))
    if tilt > MAX_TILT_DEG:
        text = f"not axial: slices are tilted by {tilt:.0f} degrees, at most {MAX_TILT_DEG:.0f}"
        yield Finding("not_axial", text, refuses=True)
    _, rows_mm, columns_mm = volume.spacing_mm
    if max(rows_mm, columns_mm) > MAX_PIXEL_RATIO * min(rows_mm, columns_mm):
        text = (
            f"not axial: {columns_mm:.1f} mm from right to left and {rows_mm:.1f} mm from front to back are one step; "
            "pixels of axial slices are square"
        )
        yield Finding("not_axial", text, refuses=True)


def _slices(volume: Volume) -> Iterator[Finding]:
    count, step_mm = volume.hu.shape[0], volume.spacing_mm[0]
    if count < MIN_SLICES:
        yield Finding("too_few_slices", f"too few slices: {count}, at least {MIN_SLICES}", refuses=True)
    if step_mm > MAX_STEP_MM:
        text = f"slices too far apart: {step_mm:.1f} mm, at most {MAX_STEP_MM:.0f}"
        yield Finding("too_few_slices", text, refuses=True)
    elif step_mm > COARSE_STEP_MM:
        yield Finding("too_few_slices", f"slices stand {step_mm:.1f} mm apart", refuses=False)
    coverage_mm = volume.coverage_mm[0]
    if coverage_mm < MIN_COVERAGE_MM:
        text = f"thin slab: {coverage_mm:.0f} mm are covered, at least {MIN_COVERAGE_MM:.0f}"
        yield Finding("incomplete_coverage", text, refuses=True)
    missing_mm = coverage_mm - count * step_mm
    if volume.extent_mm is not None and missing_mm > step_mm / 2:
        text = f"slices are missing: {missing_mm:.0f} mm, at most {MAX_MISSING_MM:.0f}"
        yield Finding("incomplete_coverage", text, refuses=missing_mm > MAX_MISSING_MM)


def _shows_body(args: PreprocessArgs, spacing_mm: Millimetres3) -> bool:
    whole = args.body_crop and args.spacing_mm is None and args.organ_crop == "none"
    return whole and all(step <= limit for step, limit in zip(spacing_mm, _FINEST_NEEDED_MM, strict=True))


def _tissue(grid: BodyGrid) -> Iterator[Finding]:
    inside = grid.hu[grid.body]
    tissue = float(((inside >= -150) & (inside < 150)).mean()) if inside.size else 0.0
    if tissue < MIN_TISSUE_SHARE:
        text = f"not a CT of a body: {tissue:.0%} of it are fat or soft tissue, at least {MIN_TISSUE_SHARE:.0%}"
        yield Finding("not_ct", text, refuses=True)
    darkest = float(np.percentile(grid.hu, 1))
    if darkest > BODY_HU or (grid.body.mean() < FULL_BODY and darkest > AIR_HU):
        text = f"not CT: nothing in view is as dark as air, but {darkest:.0f} HU; at most {AIR_HU:.0f} is"
        yield Finding("not_ct", text, refuses=True)


def _body_part(anatomy: Anatomy) -> Iterator[Finding]:
    if anatomy == UNKNOWN or anatomy.abdomen_mm is None:
        text = "no lung and no air in view to judge by: the body part was not checked"
        yield Finding("not_abdomen", text, refuses=False)
        return
    extent = f"{anatomy.abdomen_mm:.0f} mm look like an abdomen"
    if anatomy.is_abdomen is False:
        yield Finding("not_abdomen", f"not an abdomen: {extent}, at least 40 or half of the slices", refuses=True)
    elif anatomy.abdomen_mm < MIN_ABDOMEN_MM:
        text = f"too little abdomen: {extent}, at least {MIN_ABDOMEN_MM:.0f}"
        yield Finding("incomplete_coverage", text, refuses=True)
    elif anatomy.coverage == "partial":
        ends = {"lung bases": anatomy.reaches_lungs, "pelvis": anatomy.reaches_pelvis}
        missing = " and ".join(name for name, reached in ends.items() if reached is False)
        yield Finding("incomplete_coverage", f"does not reach the {missing}", refuses=False)


def _field(volume: Volume, grid: BodyGrid) -> Iterator[Finding]:
    share, width_mm = cut_share(grid), volume.coverage_mm[2]
    if share > CUT_SHARE:
        text = f"the field of view, {width_mm:.0f} mm wide, cuts the body off at the side on {share:.0%} of the slices"
        yield Finding("incomplete_coverage", text, refuses=width_mm < MIN_FIELD_MM)
