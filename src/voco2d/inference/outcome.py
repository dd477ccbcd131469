"""The result of one series as it comes about: from its volume, or from what went wrong."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voco2d.errors import ReadError, Voco2dError
from voco2d.inference.results import GateMode, SeriesResult, StudyResult
from voco2d.inference.runtime import Slices
from voco2d.io.source import Rejection
from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.preprocessing.preprocess import Prepared

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOut:
    """A series as the networks see it.

    Args:
        prepared: The prepared volume, which leads back to the source.
        slices: (S, C, H, W) float32, what `Runtime.logits` takes.
    """

    prepared: Prepared
    slices: Slices


class Clock:
    """Measures the steps of one series, seconds by name."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    @property
    def seconds(self) -> Mapping[str, float]:
        """What each step took."""
        return dict(self._seconds)

    def stop(self, step: str) -> None:
        """End a step that began with the end of the one before."""
        now = time.perf_counter()
        self._seconds[step] = now - self._last
        self._last = now


def series_of(volume: Volume, gates: GateMode) -> SeriesResult:
    """Start the result of a volume."""
    return SeriesResult(volume.patient_id, volume.study_id, volume.series_id, gates, source=volume.source)


def geometry_of(volume: Volume, prepared: Prepared | None) -> dict[str, Any]:
    """Tell what a series is, as results do; `prepared` adds the notes of preprocessing."""
    notes = volume.notes if prepared is None else (*volume.notes, *prepared.notes)
    return {
        "slices": volume.hu.shape[0],
        "spacing_mm": [round(step, 4) for step in volume.spacing_mm],
        "coverage_mm": [round(extent, 1) for extent in volume.coverage_mm],
        "notes": list(notes),
    }


def failed(error: Exception, known: SeriesResult) -> SeriesResult:
    """Turn whatever a damaged file made a decoder raise into a result, so that other inputs are still graded."""
    _log.debug("%s", wordless(error))
    return replace(known, error=failure_reason(error))


def failure_reason(error: Exception) -> str:
    """Say why, without a path; errors that are not ours keep their words to themselves, which may hold identifiers."""
    if isinstance(error, ReadError):
        return error.reason
    if isinstance(error, Voco2dError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "could not be graded, in a way that was not foreseen; --verbose tells where it failed"


def first_study(studies: Sequence[StudyResult], rejections: Sequence[Rejection], scan: Path | str) -> StudyResult:
    """Return the first of the studies that `predict_studies` of a predictor found in a scan.

    Args:
        studies: What it found.
        rejections: Files that belong to none.
        scan: Where it looked, named in the error.

    Raises:
        ReadError: There is none; the reason is that of the first file.
    """
    if not studies:
        reason = f" ({rejections[0].reason})" if rejections else ""
        raise ReadError(scan, f"no CT series in it{reason}")
    return studies[0]
