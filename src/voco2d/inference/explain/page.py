"""The page of one study: answers with what they are compared with, why they were given, checks, provenance."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from voco2d.inference.explain.explanation import NO_MAPS, SeriesExplanation
from voco2d.inference.explain.page_figures import reference_chart
from voco2d.inference.predictor import Predictor
from voco2d.inference.report_page import (
    Block,
    Bullets,
    Cell,
    Figure,
    Gallery,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    text_section,
)
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.quality.flags import EXPLANATIONS
from voco2d.targets import TargetSet
from voco2d.version import VERSION, installed_version

_PACKAGES: Final = ("torch", "timm", "captum", "numpy", "pydicom", "nibabel")

SHARES: Final = (
    "Share in training: how common the class was among the patients that the networks learnt from, by which a "
    "probability without any picture would be given. Networks: the lowest and the highest; the range tells how far "
    "the answer moves with who was trained on, not how often it is right."
)
CURVE: Final = (
    "The curve tells how much each slice adds to the log-odds of {event}, compared with the mean slice of the same "
    "scan."
)
COLOURS: Final = (
    "The colours tell where on a slice the network's last features speak for it (Grad-CAM), in cells as coarse as "
    "those features: too coarse to point at a finding."
)
READING: Final = (
    "This is what the networks looked at: neither does it show that there is {event}, nor its outline. Also where "
    "the answer is {first} the slices that speak most for {event} are shown. The patient's right (R) is on the left."
)


@dataclass(frozen=True)
class SeriesView:
    """What a page shows of one series beside its result; small, so that many can be kept until their study is whole.

    Args:
        explanation: Why it was graded so; None where that failed.
        figures: Target → its curve and key slices.
        flags: Of the quality measures, keys of `voco2d.quality.flags.EXPLANATIONS`.
        error: Why there is no explanation, or empty.
    """

    explanation: SeriesExplanation | None = None
    figures: Mapping[str, tuple[Figure, ...]] | None = None
    flags: tuple[str, ...] = ()
    error: str = ""


def study_sections(study: StudyResult, views: Sequence[SeriesView | None], predictor: Predictor) -> list[Section]:
    """Put the page of a study together; no identifier of a patient, study or series and no path stands in it.

    Args:
        study: The result.
        views: One a series, in the result's order; None where nothing could be prepared.
        predictor: What graded it.
    """
    sections = [_answer(study, predictor.models.class_shares)]
    for number, (entry, view) in enumerate(zip(study.series, views, strict=True), 1):
        name = "" if len(views) == 1 else f", series {number} of {len(views)}"
        sections += [_reasons(f"Where{name}", entry, view, study.targets), _checks(f"Checks{name}", entry, view)]
    return [*sections, _provenance(predictor, views)]


def _answer(study: StudyResult, shares: Mapping[str, float] | None) -> Section:
    probabilities, intervals = study.probabilities, study.intervals
    if probabilities is None:
        return text_section("Answer", [f"Not assessed: {study.reason}."])
    rows: list[Row] = []
    for name, target in study.targets.items():
        best = max(target.columns, key=lambda column: probabilities[column])
        for grade, column in zip(target.classes, target.columns, strict=True):
            low_high = "one network" if intervals is None else " to ".join(f"{end:.3f}" for end in intervals[column])
            share = "not recorded" if shares is None else f"{shares[column]:.3f}"
            value = Cell(f"{probabilities[column]:.3f}", strong=column == best)
            rows.append((f"{name} {grade}", value, low_high, share))
    blocks: list[Block] = [Paragraph(study.reason + ".")] if study.reason else []
    healthy = {name: target.columns[0] for name, target in study.targets.items()}
    injuries = {name: 1 - probabilities[column] for name, column in healthy.items()}
    ranges = None
    if intervals is not None:
        ranges = {name: (1 - intervals[column][1], 1 - intervals[column][0]) for name, column in healthy.items()}
    common = None if shares is None else {name: 1 - shares[column] for name, column in healthy.items()}
    words = f"Probabilities are {'calibrated' if study.scalers is not None else 'not calibrated'}."
    if study.any_injury is not None:
        words = f"Any injury: {study.any_injury:.3f}, the highest of the targets. {words}"
    blocks += [
        Paragraph(words),
        reference_chart(injuries, ranges, common, study.targets.event),
        Table(("class", "probability", "networks", "share in training"), tuple(rows), SHARES),
    ]
    return Section("Answer", tuple(blocks))


def _reasons(title: str, entry: SeriesResult, view: SeriesView | None, targets: TargetSet) -> Section:
    if view is None or view.explanation is None or view.figures is None:
        why = entry.reason if view is None or not view.error else view.error
        return text_section(title, [f"No explanation: {why}."])
    colours = COLOURS if view.explanation.has_maps else f"There are no colours: {NO_MAPS}."
    first = "healthy" if targets.is_rsna else "the first class"
    curve, reading = CURVE.format(event=targets.event), READING.format(event=targets.event, first=first)
    word = "injury" if targets.is_rsna else "not the first class"
    blocks: list[Block] = [Paragraph(f"{curve} {colours} {reading}")]
    for name, told in view.explanation.targets.items():
        answer = "not assessed" if told.injury is None else f"{word} {told.injury:.3f}"
        blocks += [Heading(f"{name}: {answer}"), Gallery(view.figures[name])]
    return Section(title, tuple(blocks))


def _checks(title: str, entry: SeriesResult, view: SeriesView | None) -> Section:
    blocks: list[Block] = [Paragraph(_gates_words(entry))]
    if entry.findings:
        rows = [(found.gate, "refuses" if found.refuses else "remark", found.text) for found in entry.findings]
        blocks.append(Table(("gate", "weight", "finding"), tuple(rows)))
    flags = () if view is None else view.flags
    words = tuple(f"{flag}: {EXPLANATIONS.get(flag, flag)}" for flag in flags)
    blocks += [Heading("Quality flags"), Bullets(words) if words else Paragraph("None.")]
    notes = tuple(entry.geometry.get("notes", ()))
    if notes:
        blocks += [Heading("Notes of reading and preparation"), Bullets(notes)]
    if entry.geometry:
        blocks.append(Paragraph(_geometry_words(entry)))
    return Section(title, tuple(blocks))


def _gates_words(entry: SeriesResult) -> str:
    if entry.error:
        return f"Could not be graded: {entry.error}."
    if entry.gates == "off":
        return "The gates were switched off: nothing was checked."
    flagged = " Findings were only flagged (gates=flag)." if entry.gates == "flag" else ""
    found = "Findings of the gates are below." if entry.findings else "No gate found anything."
    if not entry.distances:
        return found + flagged
    return f"{found}{flagged} Feature distance to the training data: {median(entry.distances):.2f} of its limit."


def _geometry_words(entry: SeriesResult) -> str:
    spacing = " × ".join(f"{step:.2f}" for step in entry.geometry["spacing_mm"])
    covered = entry.geometry["coverage_mm"][0]
    return f"{entry.geometry['slices']} slices; voxels {spacing} mm; {covered:.0f} mm from head to foot."


def _provenance(predictor: Predictor, views: Sequence[SeriesView | None]) -> Section:
    versions = {"voco2d": VERSION, "python": platform.python_version()}
    versions |= {name: found for name in _PACKAGES if (found := installed_version(name)) is not None}
    settings = predictor.settings
    prepared, readout = settings.preprocess, settings.readout
    size = " × ".join(map(str, prepared.size))
    crops = f"body crop {'on' if prepared.body_crop else 'off'}, organ crop {prepared.organ_crop}"
    windows = ", ".join(f"{low:.0f} to {high:.0f}" for low, high in readout.windows).replace("-", "−")
    rankings = {view.explanation.ranked_by for view in views if view is not None and view.explanation is not None}
    rows: list[Row] = [
        ("versions", ", ".join(f"{name} {found}" for name, found in versions.items())),
        ("networks", str(len(predictor))),
        *((runtime.name, Cell(f"SHA-256 {runtime.sha256}", runtime.device)) for runtime in predictor.models.runtimes),
        ("precision", predictor.precision),
        ("mirror images", ", ".join(predictor.test_flips) or "none"),
        ("calibration", "none" if predictor.scalers is None else "fitted on held-out patients"),
        ("gates", predictor.gates),
        ("prepared volume", f"{size} voxels, {crops}"),
        ("seen by the networks", f"{readout.slices} slices, crop {readout.crop}, windows {windows} HU"),
        ("key slices ranked by", ", ".join(sorted(rankings)).replace("_", " ") or "none"),
    ]
    return Section("How this came about", (Table(("what", "value"), tuple(rows)),))
