"""Gathers explanations while studies are graded, and turns each study into a page and a JSON text."""

import logging
from pathlib import Path
from typing import Final

from voco2d.inference.explain.explain_study import (
    ExplainedSeries,
    ExplainedStudy,
    SeriesKey,
    explain_safely,
    series_key,
)
from voco2d.inference.explain.explainer import KEY_SLICES, Explainer
from voco2d.inference.explain.explanation import SeriesExplanation
from voco2d.inference.explain.page import SeriesView, study_sections
from voco2d.inference.explain.page_figures import curve_figure, key_slice_figure, slice_strip
from voco2d.inference.outcome import ReadOut
from voco2d.inference.predictor import Predictor
from voco2d.inference.report_page import Figure, write_report
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.quality.measure import measure

TITLE: Final = "Abdominal injuries: one study"
_OTHER_TITLE: Final = "One study"

_log = logging.getLogger(__name__)


class StudyPages:
    """Explains the series of a predictor as they are graded.

    Args:
        predictor: Loaded; give `look` to its `predict` or `predict_studies`.
        key_slices: How many a target at most, at least 1.

    Raises:
        UsageError: The engine is torch, and Captum is not installed.
        ConfigError: `key_slices` is below 1.
    """

    def __init__(self, predictor: Predictor, key_slices: int = KEY_SLICES) -> None:
        self._predictor = predictor
        self._explainer = Explainer(predictor, key_slices)
        self._views: dict[SeriesKey, SeriesView] = {}

    @property
    def gives_maps(self) -> bool:
        """Whether there will be maps in the plane."""
        return self._explainer.gives_maps

    def look(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> None:
        """Explain a series and draw what its page shows; a failure costs the explanation and never the answer."""
        explanation, figures, error = explain_safely(
            self._explainer, volume, seen, result, lambda told: _figures(volume, told)
        )
        self._views[series_key(result)] = SeriesView(explanation, figures, _flags(volume, seen), error)

    def views(self, study: StudyResult) -> list[SeriesView | None]:
        """Return what was gathered of each series of a study, None for one that could not be prepared."""
        return [self._views.get(series_key(entry)) for entry in study.series]

    def write_page(self, out: Path, study: StudyResult) -> None:
        """Write the page of a study: one HTML file that asks for nothing else and names nobody.

        Raises:
            UsageError: `out` is a folder.
        """
        title = TITLE if study.targets.is_rsna else _OTHER_TITLE
        write_report(out, title, study_sections(study, self.views(study), self._predictor))

    def explanation_text(self, study: StudyResult) -> str:
        """Write the explanations of a study's series as JSON, see `ExplainedStudy.to_json`."""
        told = [
            ExplainedSeries(error=entry.reason) if view is None else ExplainedSeries(view.explanation, error=view.error)
            for entry, view in zip(study.series, self.views(study), strict=True)
        ]
        return ExplainedStudy(study, tuple(told)).to_json()


def _flags(volume: Volume, seen: ReadOut) -> tuple[str, ...]:
    try:
        told = str(measure(volume, seen.prepared)["flags"])
    except Exception as error:  # whatever a strange scan makes a library raise
        _log.debug("%s", wordless(error))
        return ()
    return tuple(told.split(";")) if told else ()


def _figures(volume: Volume, explanation: SeriesExplanation) -> dict[str, tuple[Figure, ...]]:
    strip = slice_strip(volume, explanation)
    return {
        name: (
            curve_figure(told, explanation, strip),
            *(key_slice_figure(volume, explanation, name, key) for key in told.key_slices),
        )
        for name, told in explanation.targets.items()
    }
