"""What prediction writes: results as JSON, the same bytes for the same input, and a report of the run beside them."""

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from voco2d.config import to_tree
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import NOTICE, SeriesResult, StudyResult
from voco2d.io.source import Rejection
from voco2d.version import VERSION

_PACKAGES: Final = ("numpy", "scipy", "pydicom", "nibabel", "torch", "timm", "onnxruntime")


@dataclass(frozen=True)
class RunTimes:
    """When a run was.

    Args:
        started: Its begin.
        finished: Its end.
        loading_s: What loading the networks took, seconds.
    """

    started: datetime
    finished: datetime
    loading_s: float

    @staticmethod
    def now() -> datetime:
        """Return the time of the moment."""
        return datetime.now(UTC)


def results_text(studies: Sequence[StudyResult]) -> str:
    """Write results as JSON: no time, no date and no path stands in it."""
    tree = {"notice": NOTICE, "studies": [study.to_tree() for study in studies]}
    return json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def report_text(
    predictor: Predictor, studies: Sequence[StudyResult], rejections: Sequence[Rejection], times: RunTimes
) -> str:
    """Write how results came about: versions, networks, preparation, times, warnings; ids are digests, paths absent.

    Args:
        predictor: What graded.
        studies: The results.
        rejections: Files that belong to none; only counted, by their reason.
        times: When it was.
    """
    series = [entry for study in studies for entry in study.series]
    tree = {
        "notice": NOTICE,
        "started": times.started.isoformat(timespec="seconds"),
        "seconds": round((times.finished - times.started).total_seconds(), 3),
        "seconds_loading": round(times.loading_s, 3),
        "versions": {"voco2d": VERSION, "python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "models": [_model(runtime) for runtime in predictor.models.runtimes],
        "precision": predictor.precision,
        "gates": predictor.gates,
        "test_flips": list(predictor.test_flips),
        "calibration": _calibration(predictor),
        **{key: value for key, value in predictor.settings.to_tree().items() if key != "test_flips"},
        "studies": len(studies),
        "assessed": sum(entry.is_assessed for entry in series),
        "not_assessed": sum(not entry.is_assessed for entry in series),
        "series": [_series(study, entry) for study in studies for entry in study.series],
        "skipped_files": dict(sorted(Counter(rejection.reason for rejection in rejections).items())),
        "warnings": sorted({f.text for entry in series for f in entry.findings if not f.refuses}),
    }
    return json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def hashed_id(identifier: str) -> str:
    """Return a digest of an identifier (SHA-256, first 16 hexadecimal digits); of an empty one nothing.

    It tells whether two are the same without spelling them out. Who has a list of identifiers can try them.
    """
    return hashlib.sha256(identifier.encode("utf-8", "backslashreplace")).hexdigest()[:16] if identifier else ""


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _model(runtime: Any) -> dict[str, Any]:
    distance = runtime.feature_distance
    return {
        "weights": runtime.name,
        "sha256": runtime.sha256,
        "engine": type(runtime).__name__,
        "device": runtime.device,
        "feature_distance_limit": None if distance is None else round(distance.threshold, 6),
    }


def _calibration(predictor: Predictor) -> Mapping[str, Any] | None:
    if predictor.scalers is None:
        return None
    return {name: to_tree(scaler) for name, scaler in predictor.scalers.items()}


def _series(study: StudyResult, entry: SeriesResult) -> dict[str, Any]:
    return {
        "patient": hashed_id(study.patient_id),
        "study": hashed_id(study.study_id),
        "series": hashed_id(entry.series_id),
        "status": entry.status,
        "reason": entry.reason,
        "findings": [vars(finding) for finding in entry.findings],
        **entry.geometry,
        "seconds": {step: round(seconds, 3) for step, seconds in entry.seconds.items()},
    }
