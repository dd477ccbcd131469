"""Draws the page that goes with a report: probabilities of each class, or why there are none."""

import io
import textwrap
from typing import Final

from matplotlib.figure import Figure

from voco2d.inference.results import NOTICE, StudyResult
from voco2d.targets import Target
from voco2d.version import VERSION

_A4_INCHES: Final = (8.27, 11.69)


def result_page(result: StudyResult) -> bytes:
    """Draw an answer as one PDF page of A4; it names nobody, and the same answer gives the same bytes.

    Args:
        result: The answer.
    """
    figure = Figure(figsize=_A4_INCHES)
    what = "Abdominal trauma CT" if result.targets.is_rsna else "CT"
    figure.text(0.08, 0.94, f"{what}, graded by an algorithm", size=16, weight="bold")
    figure.text(0.08, 0.915, f"voco2d {VERSION}. {NOTICE} Not for diagnosis.", size=10, color="#a00000")
    figure.text(0.08, 0.885, f"Status: {result.status.replace('_', ' ')}", size=11)
    if result.reason:
        wrapped = "\n".join(textwrap.wrap(result.reason, 95)[:8])
        figure.text(0.08, 0.875, wrapped, size=9, va="top", color="#444444")
    if result.probabilities is not None:
        _draw_bars(figure, result)
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Title": "voco2d result"})
    return file.getvalue()


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
        if column in intervals:
            axes.plot(intervals[column], (row, row), color="black", lw=1.5)
        axes.text(1.02, row, f"{value:.2f}", va="center", size=10)
    axes.set_yticks(range(len(columns)), [f"{target}, {grade}" for target, grade in columns])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability" + ("; line: lowest and highest network" if intervals else ""))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
