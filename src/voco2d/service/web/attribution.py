"""Joins the page to `voco2d.inference.explain`, where that can be used; scans are shown alone otherwise."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from voco2d.errors import UsageError
from voco2d.inference.explain.explain_study import Explanations
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.predictor import Predictor
from voco2d.io.orientation import swap_lps_ras
from voco2d.io.volume import Volume
from voco2d.service.web.evidence import Evidence, Explain, Explained, Overlay

_log = logging.getLogger(__name__)


def load_explain(predictor: Predictor) -> Explain | None:
    """Return what explains the answers of a predictor; None, and a line in the log, where nothing does."""
    try:
        explainer = Explainer(predictor)
    except UsageError as error:  # Captum is missing
        _log.warning("scans are shown without attribution: %s", error)
        return None

    def explain(grader: Predictor, volume: Volume, begin: Callable[[], None]) -> Explained:
        explanations = Explanations(explainer)

        def look(*seen: Any) -> None:
            begin()
            explanations.look(*seen)

        predict: Any = grader.predict
        told = explanations.of(predict(volume, look))
        (series,) = told.series
        if series.explanation is None:
            return Explained(told.result, error=series.error)
        evidence = {name: _evidence(series, name) for name in series.explanation.targets}
        return Explained(told.result, evidence)

    return explain


def _evidence(series: Any, target: str) -> Evidence:
    explanation = series.explanation
    overlay = None
    if explanation.has_maps:
        image = explanation.heat_image(target)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
        overlay = Overlay(voxels, swap_lps_ras(np.asarray(image.affine, dtype=np.float64)))
    return Evidence(
        tuple(key.source.index for key in explanation.targets[target].key_slices),
        np.asarray(explanation.source_curve(target), dtype=np.float64),
        overlay,
        tuple(series.key_images.get(target, ())),
    )
