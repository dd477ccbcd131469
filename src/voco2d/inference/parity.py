"""Whether ONNX Runtime says of the same volumes what torch says: measured before a package gets its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float32

from voco2d.inference.onnx_graph import EnsembleGraph, output_names
from voco2d.inference.onnx_package import INPUT_NAME, MEAN_NAME
from voco2d.inference.runtime import FEATURES, Slices

TOLERANCE: Final = 1e-4
"""Largest allowed difference: of a probability as it is; of a logit or feature over its size where that exceeds 1."""

Volumes = Float32[np.ndarray, "_ _ C H W"]
"""(B, S, C, H, W); several of them differ in B and S."""


@dataclass(frozen=True)
class ParityCase:
    """One input and how far the two answers lie apart.

    Args:
        name: What the input is.
        volumes: B of it.
        slices: S of it.
        probabilities: Largest difference of the mean probabilities.
        logits: Largest difference of any fold's logits, over the logit's size where that exceeds 1.
        features: Likewise of the features.
    """

    name: str
    volumes: int
    slices: int
    probabilities: float
    logits: float
    features: float

    @property
    def worst(self) -> float:
        """The largest of the three; infinite where a value is not finite."""
        worst = max(self.probabilities, self.logits, self.features)
        return worst if np.isfinite([self.probabilities, self.logits, self.features]).all() else float("inf")


@dataclass(frozen=True)
class Parity:
    """The report.

    Args:
        cases: One an input.
        spread: Largest difference of a class's probability between any two volumes graded; near 0 the network answers
            alike whatever it sees, and the comparison says little.
    """

    cases: tuple[ParityCase, ...]
    spread: float

    @property
    def worst(self) -> float:
        """The largest difference of all."""
        return max(case.worst for case in self.cases)

    @property
    def holds(self) -> bool:
        """Whether every difference is within `TOLERANCE`."""
        return self.worst <= TOLERANCE

    def tree(self) -> dict[str, Any]:
        """Return what is written of it; a difference that is not finite becomes null."""
        return {
            "tolerance": TOLERANCE,
            "holds": self.holds,
            "largest_difference": _finite(self.worst),
            "spread_of_probabilities": _finite(self.spread),
            "cases": [{key: _finite(value) for key, value in vars(case).items()} for case in self.cases],
        }


def parity_inputs(phantoms: Sequence[Slices], image: tuple[int, int, int], slices: int) -> dict[str, Volumes]:
    """Make inputs of several numbers of volumes and slices.

    Args:
        phantoms: (S, C, H, W) what the network sees of at least one volume.
        image: C, H, W of a slice.
        slices: S the network was trained with.
    """
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, slices), (2, 5), (3, slices // 2 + 2)]
    inputs = {f"noise, {b} x {s} slices": rng.random((b, s, *image), dtype=np.float32) for b, s in shapes}
    inputs |= {f"phantom {number + 1}": volume[None] for number, volume in enumerate(phantoms)}
    inputs["all phantoms"] = np.stack(list(phantoms))
    inputs["all phantoms, every other slice"] = inputs["all phantoms"][:, ::2]
    return {name: np.ascontiguousarray(volumes) for name, volumes in inputs.items()}


@torch.inference_mode()
def measure_parity(model: EnsembleGraph, session: Any, inputs: Mapping[str, Volumes]) -> Parity:
    """Grade each input by torch and by ONNX Runtime.

    Args:
        model: In evaluation mode, on the CPU.
        session: ONNX Runtime's, of the same model.
        inputs: At least one.
    """
    names = output_names(len(model.folds), model.targets)
    cases, graded = [], []
    for name, volumes in inputs.items():
        expected = dict(zip(names, (answer.numpy() for answer in model(torch.from_numpy(volumes))), strict=True))
        answers = dict(zip(names, session.run(names, {INPUT_NAME: volumes}), strict=True))
        apart = {key: _difference(answers[key], expected[key]) for key in names}
        features = [value for key, value in apart.items() if key.endswith(FEATURES)]
        logits = [value for key, value in apart.items() if key != MEAN_NAME and not key.endswith(FEATURES)]
        count, slices = volumes.shape[:2]
        cases.append(ParityCase(name, count, slices, apart[MEAN_NAME], max(logits), max(features)))
        graded.append(expected[MEAN_NAME])
    rows = np.concatenate(graded)
    return Parity(tuple(cases), float((rows.max(axis=0) - rows.min(axis=0)).max()))


def _difference(answer: Float[np.ndarray, "B n"], expected: Float[np.ndarray, "B n"]) -> float:
    apart = np.abs(answer - expected) / np.maximum(1, np.abs(expected))
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
