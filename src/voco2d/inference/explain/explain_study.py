"""Grades a study and explains it in one call: curves, key slices, pictures, and where in the scan to look."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from voco2d.inference.explain.explainer import KEY_SLICES, Explainer
from voco2d.inference.explain.explanation import SeriesExplanation
from voco2d.inference.explain.overlay import key_image
from voco2d.inference.outcome import ReadOut, failure_reason
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import NOTICE, SeriesResult, StudyResult
from voco2d.io.volume import Volume
from voco2d.logs import wordless

NOT_ASSESSED = "the series was not assessed"

Pictures = TypeVar("Pictures")
SeriesKey = tuple[str, str, str]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplainedSeries:
    """Why one series was graded as it was.

    Args:
        explanation: None where there is none.
        key_images: Target → PNG of each of its key slices, by rank.
        error: Why there is no explanation, or empty.
    """

    explanation: SeriesExplanation | None = None
    key_images: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class ExplainedStudy:
    """A study's answer and why it was given.

    Args:
        result: The answer, the same as without an explanation.
        series: One a series of the result, in its order.
    """

    result: StudyResult
    series: tuple[ExplainedSeries, ...]

    def to_tree(self) -> dict[str, Any]:
        """Return the explanations as plain values, without pictures; series and instance UIDs, no patient."""
        series = [
            {"series_id": entry.series_id, "status": entry.status, "reason": told.error or entry.reason}
            if told.explanation is None
            else told.explanation.to_tree()
            for entry, told in zip(self.result.series, self.series, strict=True)
        ]
        return {"notice": NOTICE, "series": series}

    def to_json(self) -> str:
        """Write `to_tree` as JSON."""
        return json.dumps(self.to_tree(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


class Explanations:
    """Explains series as a predictor grades them: give `look` to its `predict`, `predict_studies` or `predict_source`.

    It remembers what it explained; begin a new one for each study, or where memory should be given back.

    Args:
        explainer: Of that predictor.
    """

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer
        self._found: dict[SeriesKey, ExplainedSeries] = {}

    def look(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> None:
        """Explain a series that was assessed; a failure costs the explanation and never the answer."""
        self._found[series_key(result)] = self._explained(volume, seen, result)

    def of(self, study: StudyResult) -> ExplainedStudy:
        """Return a study with what was found of its series."""
        found = [
            self._found.get(series_key(entry), ExplainedSeries(error=entry.reason or NOT_ASSESSED))
            for entry in study.series
        ]
        return ExplainedStudy(study, tuple(found))

    def _explained(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> ExplainedSeries:
        explanation, images, error = explain_safely(
            self._explainer, volume, seen, result, lambda told: _key_images(volume, told)
        )
        return ExplainedSeries(explanation, images or {}, error)


def explain_study(predictor: Predictor, scan: Volume | Path | str, key_slices: int = KEY_SLICES) -> ExplainedStudy:
    """Grade one study and explain each of its series that was assessed.

    Args:
        predictor: Loaded.
        scan: As `Predictor.predict` takes it.
        key_slices: How many a target at most, at least 1.

    Raises:
        ReadError: There is no series at the path, or series of several studies.
        UsageError: The path does not exist; or the engine is torch, and Captum is not installed.
        ConfigError: `key_slices` is below 1.
    """
    explanations = Explanations(Explainer(predictor, key_slices))
    return explanations.of(predictor.predict(scan, explanations.look))


def explain_safely(
    explainer: Explainer,
    volume: Volume,
    seen: ReadOut,
    result: SeriesResult,
    draw: Callable[[SeriesExplanation], Pictures],
) -> tuple[SeriesExplanation | None, Pictures | None, str]:
    """Explain and draw a series; return the explanation and its pictures, or why there are none.

    A series that was not assessed is not explained, so that no curve or picture stands for an answer that a gate
    refused.
    """
    if not result.is_assessed:
        return None, None, result.reason or NOT_ASSESSED
    try:
        explanation = explainer.explain(volume, seen, result)
        return explanation, draw(explanation), ""
    except Exception as error:  # whatever a strange scan makes a library raise
        _log.debug("%s", wordless(error))
        return None, None, failure_reason(error)


def series_key(result: SeriesResult) -> SeriesKey:
    """Return what tells a series from the others of its run."""
    return result.patient_id, result.study_id, result.series_id


def _key_images(volume: Volume, explanation: SeriesExplanation) -> dict[str, tuple[bytes, ...]]:
    return {
        name: tuple(key_image(volume, explanation, name, key) for key in told.key_slices)
        for name, told in explanation.targets.items()
    }
