"""Draws the page that goes with a report: probabilities of each class, or why there are none."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.figure import Figure

from voco2d.inference.results import NOTICE, StudyResult
from voco2d.service.caveats import calibration, caveats
from voco2d.targets import Target
from voco2d.version import VERSION

_A4_INCHES: Final = (8.27, 11.69)
_MOST_NETWORKS: Final = 10
_MOST_LINES: Final = 8


@dataclass(frozen=True)
class Origin:
    """Where an answer comes from, as its page tells at the foot.

    Args:
        networks: Name and SHA-256 of each network.
        study: Digest of the study, see `voco2d.service.audit.digest_of`.
        graded: When, in words.
        series: Number of each series, see `voco2d.service.caveats.caveats`.
    """

    networks: Sequence[tuple[str, str]] = ()
    study: str = ""
    graded: str = ""
    series: Sequence[str] = ()


def result_page(result: StudyResult, origin: Origin | None = None) -> bytes:
    """Draw an answer as one PDF page of A4; it names nobody, and the same answer gives the same bytes.

    Args:
        result: The answer.
        origin: What is told of it.
    """
    figure = Figure(figsize=_A4_INCHES)
    what = "Abdominal trauma CT" if result.targets.is_rsna else "CT"
    figure.text(0.08, 0.94, f"{what}, graded by an algorithm", size=16, weight="bold")
    figure.text(0.08, 0.915, f"voco2d {VERSION}. {NOTICE} Not for diagnosis.", size=10, color="#a00000")
    figure.text(0.08, 0.885, f"Status: {result.status.replace('_', ' ')}", size=11)
    origin = origin or Origin()
    figure.text(0.08, 0.875, "\n".join(_reasons(result, origin)), size=9, va="top", color="#444444")
    if result.probabilities is not None:
        _draw_bars(figure, result)
    figure.text(0.08, 0.22, "\n".join(_foot(result, origin)), size=8, va="top", color="#444444")
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Title": "voco2d result"})
    return file.getvalue()


def _reasons(result: StudyResult, origin: Origin) -> list[str]:
    """Tell what must be known beside the numbers, in as many lines as there is room for, the gravest first."""
    told = caveats(result, origin.series)
    if len(result.series) > 1:
        refused = [text for entry, text in zip(result.series, told, strict=True) if not entry.is_assessed]
        shared = [words for words in result.series[0].remarks if all(words in entry.remarks for entry in result.series)]
        whole = ["All series: " + "; ".join(shared).encode("ascii", "replace").decode()] if shared else []
        told = [*whole, *refused, *(text for text in told if text not in refused)]
    lines = [line for text in told for line in textwrap.wrap(text, 95)]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "and more, which the report holds"]


def _foot(result: StudyResult, origin: Origin) -> list[str]:
    """Tell the highest of all targets, and how the answer came about."""
    lines = []
    if result.any_injury is not None:
        lines.append(f"Any injury: {result.any_injury:.2f}, the highest of the targets")
    if result.probabilities is not None:
        lines.append(f"Probabilities are {calibration(result)}")
    lines += [f"Graded {origin.graded}"] if origin.graded else []
    lines += [f"Study {origin.study} (digest of its UID)"] if origin.study else []
    lines += [f"Network {name}, SHA-256 {digest}" for name, digest in origin.networks[:_MOST_NETWORKS]]
    if len(origin.networks) > _MOST_NETWORKS:
        lines.append(f"and {len(origin.networks) - _MOST_NETWORKS} more, which the structured report names")
    return lines


def _shown(target: Target, result: StudyResult) -> tuple[str, ...]:
    """List the classes that have a bar: all but the first, and that too where the first is one like the others."""
    every = target.kind == "multiclass" and not result.targets.is_rsna
    return target.classes if every else target.classes[1:]


def _draw_bars(figure: Figure, result: StudyResult) -> None:
    probabilities, intervals = result.probabilities or {}, result.intervals or {}
    columns = [(target.name, grade) for target in result.targets.values() for grade in _shown(target, result)]
    axes = figure.add_axes((0.3, 0.3, 0.6, 0.46))
    for row, (target, grade) in enumerate(columns):
        column = f"{target}_{grade}"
        value = probabilities[column]
        axes.barh(row, value, color="#3b6ea5", height=0.6)
        end = value
        if column in intervals:
            axes.plot(intervals[column], (row, row), color="black", lw=1.5)
            end = max(value, intervals[column][1])
        axes.text(end + 0.015, row, f"{value:.2f}", va="center", size=10)
    axes.set_yticks(range(len(columns)), [f"{target}, {grade}" for target, grade in columns])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability" + ("; line: lowest and highest network" if intervals else ""))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
