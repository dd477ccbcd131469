"""What prediction answers: a result a series, and one a study that combines its series."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from voco2d.evaluation.scaling import Scaler
from voco2d.evaluation.tables import ASSESSED, NOT_ASSESSED
from voco2d.inference.probabilities import any_injury, calibrate, fold_range, maximum
from voco2d.targets import RSNA_2023, TargetSet

GateMode = Literal["refuse", "flag", "off"]
NOTICE: Final = "Research use only; not a medical device."
DECIMALS: Final = 6
"""Of probabilities in files: beyond that, the number of threads shows."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """What a gate found.

    Args:
        gate: Which one, a key of `voco2d.inference.gates.GATES`.
        text: What it found, with the number and the limit; without any identifier.
        refuses: Whether it stands against grading; otherwise it is a remark that goes with the answer.
    """

    gate: str
    text: str
    refuses: bool


@dataclass(frozen=True)
class SeriesResult:
    """The answer for one series.

    Args:
        patient_id: Identifier of the patient; never for a log.
        study_id: Study instance UID, or empty.
        series_id: Identifier of the series.
        gates: What findings were made to do: `refuse` to grade, only `flag`, or nothing was looked at (`off`).
        folds: (K, classes) probabilities of each network before calibration, or None where nothing was assessed.
        findings: Of the gates.
        error: Why it could not be graded at all, or empty.
        remarks: What else goes with the answer.
        geometry: What the series is: slices, spacing_mm, coverage_mm, notes of reading and preprocessing.
        distances: Each network's feature distance as a share of its threshold; empty where none was fitted.
        source: Path it came from; never for a log.
        seconds: Step → what it took.
    """

    patient_id: str
    study_id: str
    series_id: str
    gates: GateMode
    folds: Float[np.ndarray, "K classes"] | None = None
    findings: tuple[Finding, ...] = ()
    error: str = ""
    remarks: tuple[str, ...] = ()
    geometry: Mapping[str, Any] = field(default_factory=dict)
    distances: tuple[float, ...] = ()
    source: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_assessed(self) -> bool:
        """Whether there are probabilities that may be shown."""
        return self.folds is not None

    @property
    def status(self) -> str:
        """`assessed` or `not_assessed`."""
        return ASSESSED if self.is_assessed else NOT_ASSESSED

    @property
    def reason(self) -> str:
        """Why it was not assessed; or what must be known beside the probabilities, empty where that is nothing."""
        if self.error:
            return self.error
        override = {"refuse": (), "flag": ("gates=flag",), "off": ("gates=off: nothing was checked",)}[self.gates]
        told = [finding.text for finding in self.findings if finding.refuses]
        aside = [finding.text for finding in self.findings if not finding.refuses]
        return "; ".join((*override, *told, *(f"remark: {text}" for text in (*aside, *self.remarks))))


@dataclass(frozen=True)
class StudyResult:
    """The answer for one study: its series, and their maximum, renormalised, as the evaluation combines them.

    Args:
        patient_id: Identifier of the patient; never for a log.
        study_id: Study instance UID, or empty.
        series: At least one.
        scalers: Target → what calibrates it, or None.
        targets: What was graded.
    """

    patient_id: str
    study_id: str
    series: tuple[SeriesResult, ...]
    scalers: Mapping[str, Scaler] | None = None
    targets: TargetSet = RSNA_2023

    @property
    def status(self) -> str:
        """`assessed` where some series was, otherwise `not_assessed`."""
        return ASSESSED if any(entry.is_assessed for entry in self.series) else NOT_ASSESSED

    @property
    def reason(self) -> str:
        """The reasons of its series, each told once."""
        return "; ".join(dict.fromkeys(entry.reason for entry in self.series if entry.reason))

    @property
    def probabilities(self) -> dict[str, float] | None:
        """The class columns → probability; None where nothing was assessed."""
        return self._answer(self._assessed())[0]

    @property
    def intervals(self) -> dict[str, Interval] | None:
        """The class columns → lowest and highest network, see `fold_range`; None with fewer than two networks."""
        return self._answer(self._assessed())[1]

    @property
    def any_injury(self) -> float | None:
        """The maximum over targets of 1 − p(healthy); None too where the targets have no such sum."""
        probabilities = self.probabilities
        if probabilities is None or self.targets.derived is None:
            return None
        return any_injury(np.array(list(probabilities.values())), self.targets)

    def series_answer(self, entry: SeriesResult) -> tuple[dict[str, float] | None, dict[str, Interval] | None]:
        """Return probabilities and intervals of one of its series, calibrated too."""
        return self._answer([entry] if entry.is_assessed else [])

    def to_tree(self) -> dict[str, Any]:
        """Return everything but sources and times as plain values: the same input gives the same tree."""
        probabilities, intervals = self._answer(self._assessed())
        return {
            "notice": NOTICE,
            "patient_id": self.patient_id,
            "study_id": self.study_id,
            "status": self.status,
            "reason": self.reason,
            "gates": self.series[0].gates,
            "calibrated": self.scalers is not None,
            "probabilities": _rounded(probabilities),
            "intervals": _rounded(intervals),
            **self._beside(),
            "series": [self._series_tree(entry) for entry in self.series],
        }

    def to_json(self) -> str:
        """Write `to_tree` as JSON."""
        return json.dumps(self.to_tree(), indent=2, allow_nan=False) + "\n"

    def _beside(self) -> dict[str, Any]:
        """Return what goes with the probabilities: RSNA's sum of all, or what other targets are."""
        if self.targets.derived is None:
            return {"targets": {name: list(target.classes) for name, target in self.targets.items()}}
        injury = self.any_injury
        return {self.targets.derived.name: None if injury is None else round(injury, DECIMALS)}

    def _series_tree(self, entry: SeriesResult) -> dict[str, Any]:
        probabilities, intervals = self.series_answer(entry)
        return {
            "series_id": entry.series_id,
            "status": entry.status,
            "reason": entry.reason,
            "probabilities": _rounded(probabilities),
            "intervals": _rounded(intervals),
            "findings": [vars(finding) for finding in entry.findings],
            "feature_distance": [round(share, 3) for share in entry.distances],
            **entry.geometry,
        }

    def _assessed(self) -> list[SeriesResult]:
        return [entry for entry in self.series if entry.is_assessed]

    def _answer(self, entries: Sequence[SeriesResult]) -> tuple[dict[str, float] | None, dict[str, Interval] | None]:
        """Combine series; networks are averaged before and scalers used after the maximum, as they were fitted."""
        stacked = [entry.folds for entry in entries if entry.folds is not None]
        if not stacked:
            return None, None
        targets, columns = self.targets, self.targets.columns
        by_series = np.stack(stacked)  # (series, K, classes)
        mean = calibrate(maximum(by_series.mean(axis=1), targets)[None], self.scalers, targets)[0]
        highest = np.stack([maximum(rows, targets) for rows in by_series.swapaxes(0, 1)])
        folds = calibrate(highest, self.scalers, targets)
        ends = fold_range(folds, mean)
        intervals = (
            None if ends is None else dict(zip(columns, zip(*map(np.ndarray.tolist, ends), strict=True), strict=True))
        )
        return dict(zip(columns, mean.tolist(), strict=True)), intervals


def group_studies(
    series: Sequence[SeriesResult], scalers: Mapping[str, Scaler] | None = None, targets: TargetSet = RSNA_2023
) -> list[StudyResult]:
    """Put the series of one patient and study together, in the order of their first ones."""
    groups: dict[tuple[str, str], list[SeriesResult]] = {}
    for entry in series:
        groups.setdefault((entry.patient_id, entry.study_id), []).append(entry)
    return [StudyResult(*ids, tuple(entries), scalers, targets) for ids, entries in groups.items()]


def _rounded(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: np.round(value, DECIMALS).tolist() for name, value in values.items()}
