"""Gathers explanations while studies are graded, and turns each study into a page and a JSON text."""

import json
import logging
from pathlib import Path
from typing import Final

from voco2d.inference.explain.explainer import KEY_SLICES, Explainer
from voco2d.inference.explain.explanation import SeriesExplanation
from voco2d.inference.explain.page import SeriesView, study_sections
from voco2d.inference.explain.page_figures import curve_figure, key_slice_figure, slice_strip
from voco2d.inference.predictor import Predictor, ReadOut, failure_reason
from voco2d.inference.report_page import Figure, write_report
from voco2d.inference.results import NOTICE, SeriesResult, StudyResult
from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.quality.measure import measure

TITLE: Final = "Abdominal injuries: one study"

_Key = tuple[str, str, str]
_log = logging.getLogger(__name__)


class StudyPages:
    """Explains the series of a predictor as they are graded.

    Args:
        predictor: Loaded, of the torch engine; give `look` to its `predict` or `predict_studies`.
        key_slices: How many a target at most.

    Raises:
        UsageError: Captum is not installed.
        ConfigError: The engine gives no gradients.
    """

    def __init__(self, predictor: Predictor, key_slices: int = KEY_SLICES) -> None:
        self._predictor = predictor
        self._explainer = Explainer(predictor, key_slices)
        self._views: dict[_Key, SeriesView] = {}

    def look(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> None:
        """Explain a series and draw what its page shows; a failure costs the explanation and never the answer."""
        flags: tuple[str, ...] = ()
        try:
            told = str(measure(volume, seen.prepared)["flags"])
            flags = tuple(told.split(";")) if told else ()
            explanation = self._explainer.explain_result(volume, seen, result)
            view = SeriesView(explanation, _figures(volume, explanation), flags)
        except Exception as error:  # whatever a strange scan makes a library raise
            _log.debug("%s", wordless(error))
            view = SeriesView(flags=flags, error=failure_reason(error))
        self._views[_key(result)] = view

    def views(self, study: StudyResult) -> list[SeriesView | None]:
        """Return what was gathered of each series of a study, None for one that could not be prepared."""
        return [self._views.get(_key(entry)) for entry in study.series]

    def write_page(self, out: Path, study: StudyResult) -> None:
        """Write the page of a study: one HTML file that asks for nothing else and names nobody.

        Raises:
            UsageError: `out` is a folder.
        """
        write_report(out, TITLE, study_sections(study, self.views(study), self._predictor))

    def explanation_text(self, study: StudyResult) -> str:
        """Write the explanations of a study's series as JSON; it holds series UIDs and instance UIDs, no patient."""
        series = [
            {"series_id": entry.series_id, "status": entry.status, "reason": reason}
            if view is None or view.explanation is None
            else view.explanation.to_tree()
            for entry, view in zip(study.series, self.views(study), strict=True)
            for reason in [entry.reason if view is None else view.error]
        ]
        return json.dumps({"notice": NOTICE, "series": series}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _figures(volume: Volume, explanation: SeriesExplanation) -> dict[str, tuple[Figure, ...]]:
    strip = slice_strip(volume, explanation)
    return {
        name: (
            curve_figure(told, explanation, strip),
            *(key_slice_figure(volume, explanation, name, key) for key in told.key_slices),
        )
        for name, told in explanation.targets.items()
    }


def _key(result: SeriesResult) -> _Key:
    return result.patient_id, result.study_id, result.series_id
