"""Explains the answers of a `Predictor`: the mean over its networks, brought back to the scan; imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from einops import einsum
from jaxtyping import Float, Float32

from voco2d.errors import ConfigError
from voco2d.extras import require
from voco2d.inference.explain.evidence import Evidence, GradientRuntime, hide_slices
from voco2d.inference.explain.explanation import RANKINGS, KeySlice, SeriesExplanation, TargetExplanation
from voco2d.inference.explain.source_grid import SourceGrid, SourceSlice, cell_weights, source_slices
from voco2d.inference.outcome import ReadOut
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.inference.runtime import Slices
from voco2d.io.volume import Volume

KEY_SLICES: Final = 3
_APART: Final = 2
"""Slices from one key slice to the next at least."""


class Explainer:
    """Explains what a predictor answers; it holds no state between calls.

    Args:
        predictor: Loaded. The engine torch gives all curves and maps; any other the curve `HIDDEN_SLICES` alone.
        key_slices: How many a target at most, at least 1.

    Raises:
        UsageError: The engine is torch, and Captum is not installed.
        ConfigError: `key_slices` is below 1.
    """

    def __init__(self, predictor: Predictor, key_slices: int = KEY_SLICES) -> None:
        if key_slices < 1:
            raise ConfigError(f"key_slices={key_slices}: must be at least 1")
        runtimes = predictor.models.runtimes
        able = [runtime for runtime in runtimes if isinstance(runtime, GradientRuntime)]
        self._with_gradients = able if len(able) == len(runtimes) else []
        if self.gives_maps:
            require("captum.attr", "explain", "an explanation")
        self._predictor = predictor
        self._key_slices = key_slices

    @property
    def gives_maps(self) -> bool:
        """Whether there will be maps in the plane."""
        return bool(self._with_gradients)

    def explain(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> SeriesExplanation:
        """Explain a series that was graded, or would have been; arguments are what `Predictor.predict` gives `look`."""
        grid = SourceGrid.of(volume, seen.prepared, self._predictor.readout_args)
        places = source_slices(volume, grid)
        graded = self._predictor.targets
        answer, _ = StudyResult("", "", (result,), self._predictor.scalers, graded).series_answer(result)
        found = self._find(seen.slices)
        targets = {
            name: self._target(name, [evidence[name] for evidence in found], places, grid, answer) for name in graded
        }
        return SeriesExplanation(volume.series_id, len(found), places, targets, grid, graded.event)

    def _find(self, slices: Slices) -> Sequence[Mapping[str, Evidence]]:
        if self.gives_maps:
            return [runtime.find_evidence(slices) for runtime in self._with_gradients]
        return hide_slices(self._predictor.models.runtimes, slices)

    def _target(
        self,
        name: str,
        found: Sequence[Evidence],
        places: Sequence[SourceSlice],
        grid: SourceGrid,
        answer: Mapping[str, float] | None,
    ) -> TargetExplanation:
        shared = [method for method in found[0].curves if all(method in evidence.curves for evidence in found)]
        curves = {method: np.mean([evidence.curves[method] for evidence in found], axis=0) for method in shared}
        classes = (
            None
            if answer is None
            else {grade: answer[f"{name}_{grade}"] for grade in self._predictor.targets[name].classes}
        )
        ranking = next(curves[method] for method in RANKINGS if method in curves)
        in_scan = np.array([-0.5 <= place.position <= grid.shape[0] - 0.5 for place in places])
        ranked = rank_slices(np.where(in_scan, ranking, -np.inf), self._key_slices)
        keys = [KeySlice(rank, index, places[index], float(ranking[index])) for rank, index in enumerate(ranked, 1)]
        maps = [evidence.heat for evidence in found if evidence.heat is not None]
        return TargetExplanation(name, classes, curves, mean_heat(maps) if maps else None, tuple(keys))


def rank_slices(curve: Float[np.ndarray, " S"], count: int) -> list[int]:
    """Choose the highest slices that are no neighbours and speak for an injury; the highest one in any case.

    Args:
        curve: An attribution a slice.
        count: How many at most.

    Returns:
        Slices from the highest attribution down.
    """
    chosen: list[int] = []
    for index in np.argsort(-curve, kind="stable").tolist():
        if len(chosen) == count or (chosen and curve[index] <= 0):
            break
        if all(abs(index - other) >= _APART for other in chosen):
            chosen.append(index)
    return chosen


def mean_heat(maps: Sequence[Float32[np.ndarray, "S _ _"]]) -> Float32[np.ndarray, "S h w"]:
    """Average the maps of several networks, each divided by its own maximum; sizes are brought to the largest."""
    size = (max(heat.shape[1] for heat in maps), max(heat.shape[2] for heat in maps))
    total = np.mean([_resized(_relative(heat), size) for heat in maps], axis=0, dtype=np.float32)
    return _relative(np.asarray(total))


def _relative(heat: Float32[np.ndarray, "S h w"]) -> Float32[np.ndarray, "S h w"]:
    highest = float(heat.max())
    return heat / np.float32(highest) if highest > 0 else heat


def _resized(heat: Float32[np.ndarray, "S _ _"], size: tuple[int, int]) -> Float32[np.ndarray, "S h w"]:
    if heat.shape[1:] == size:
        return heat
    rows, columns = (
        cell_weights((np.arange(wanted) + 0.5) / wanted, given)
        for wanted, given in zip(size, heat.shape[1:], strict=True)
    )
    return np.asarray(einsum(rows, heat, columns, "row h, s h w, column w -> s row column"), dtype=np.float32)
