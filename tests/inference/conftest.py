"""A network that answers at once, so that what lies around networks can be tested alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import FEATURES, Models, Slices
from voco2d.inference.settings import ModelSettings
from voco2d.models.feature_distance import FeatureDistance
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.targets import TARGETS


@dataclass
class MeanRuntime:
    """Answers by the mean of the slices: its logits are `slope` times it, class by class."""

    slope: float = 1.0
    name: str = "mean"
    sha256: str = "0" * 64
    device: str = "cpu"
    feature_distance: FeatureDistance | None = None
    calls: int = 0

    def logits(self, slices: Slices) -> Mapping[str, np.ndarray]:
        self.calls += 1
        level = np.float32(self.slope * slices.mean())
        answer = {name: level * np.arange(len(target.classes), dtype=np.float32) for name, target in TARGETS.items()}
        return {**answer, FEATURES: slices.mean(axis=(1, 2, 3))}


@pytest.fixture
def mean_predictor() -> Callable[..., Predictor]:
    """Make a predictor of one `MeanRuntime` a slope."""

    def make(*slopes: float, size: tuple[int, int, int] = (48, 96, 96), **options: object) -> Predictor:
        settings = ModelSettings(preprocess=PreprocessArgs(size=size), readout=ReadoutArgs(slices=8, crop=size[1]))
        return Predictor(Models([MeanRuntime(slope) for slope in slopes or (1.0,)], settings), **options)

    return make
