"""Explains the answers of a `Predictor`: the mean over its networks, brought back to the scan."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float32

from voco2d.errors import ConfigError, ReadError
from voco2d.extras import require
from voco2d.inference.explain.evidence import Evidence, find_evidence
from voco2d.inference.explain.explanation import RANKING, KeySlice, SeriesExplanation, TargetExplanation
from voco2d.inference.explain.source_grid import SourceGrid, SourceSlice, source_slices
from voco2d.inference.predictor import Predictor, ReadOut
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.inference.torch_runtime import TorchRuntime
from voco2d.io.volume import Volume
from voco2d.targets import TARGETS

KEY_SLICES: Final = 3
_APART: Final = 2
"""Slices from one key slice to the next at least."""


class Explainer:
    """Explains what a predictor answers; it holds no state between calls.

    Args:
        predictor: Loaded, of the torch engine.
        key_slices: How many a target at most, at least 1.

    Raises:
        UsageError: Captum is not installed.
        ConfigError: The predictor runs another engine, which gives no gradients.
    """

    def __init__(self, predictor: Predictor, key_slices: int = KEY_SLICES) -> None:
        require("captum.attr", "explain", "an explanation")
        if key_slices < 1:
            raise ConfigError(f"key_slices={key_slices}: must be at least 1")
        runtimes = predictor.models.runtimes
        self._networks = [runtime for runtime in runtimes if isinstance(runtime, TorchRuntime)]
        if len(self._networks) < len(runtimes):
            raise ConfigError("an explanation needs gradients, which only the engine torch gives; set runtime=torch")
        self._predictor = predictor
        self._key_slices = key_slices

    def explain(self, volume: Volume) -> tuple[StudyResult, SeriesExplanation]:
        """Grade a volume, as `Predictor.predict` does, and explain it, whether it was assessed or not.

        Raises:
            ReadError: It could not be prepared or graded.
        """
        found: list[SeriesExplanation] = []
        study = self._predictor.predict(volume, lambda *seen: found.append(self.explain_result(*seen)))
        if not found:
            raise ReadError(volume.source, study.reason)
        return study, found[0]

    def explain_result(self, volume: Volume, seen: ReadOut, result: SeriesResult) -> SeriesExplanation:
        """Explain what was graded already; a method that `Predictor.predict` takes as its `look`."""
        grid = SourceGrid.of(volume, seen.prepared, self._predictor.readout_args)
        places = source_slices(volume, grid)
        answer, _ = StudyResult("", "", (result,), self._predictor.scalers).series_answer(result)
        found = [find_evidence(network.classifier, seen.slices) for network in self._networks]
        targets = {name: self._target(name, [evidence[name] for evidence in found], places, answer) for name in TARGETS}
        return SeriesExplanation(volume.series_id, len(found), places, targets, grid)

    def _target(
        self, name: str, found: Sequence[Evidence], places: Sequence[SourceSlice], answer: Mapping[str, float] | None
    ) -> TargetExplanation:
        shared = [method for method in found[0].curves if all(method in evidence.curves for evidence in found)]
        curves = {method: np.mean([evidence.curves[method] for evidence in found], axis=0) for method in shared}
        target = TARGETS[name]
        classes = None if answer is None else {grade: answer[f"{name}_{grade}"] for grade in target.classes}
        ranked = rank_slices(curves[RANKING], self._key_slices)
        keys = [
            KeySlice(rank, index, places[index], float(curves[RANKING][index])) for rank, index in enumerate(ranked, 1)
        ]
        return TargetExplanation(name, classes, curves, mean_heat([part.heat for part in found]), tuple(keys))


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
    return _relative(total)


def _relative(heat: Float32[np.ndarray, "S h w"]) -> Float32[np.ndarray, "S h w"]:
    highest = float(heat.max())
    return heat / np.float32(highest) if highest > 0 else heat


def _resized(heat: Float32[np.ndarray, "S _ _"], size: tuple[int, int]) -> Float32[np.ndarray, "S h w"]:
    if heat.shape[1:] == size:
        return heat
    resized = torch.nn.functional.interpolate(torch.from_numpy(heat)[:, None], size, mode="bilinear")
    return np.asarray(resized[:, 0].numpy())
