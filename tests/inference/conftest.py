"""A network that answers at once, so that what lies around networks can be tested alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from voco2d.config import to_tree
from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import FEATURES, Models, Slices
from voco2d.inference.settings import ModelSettings
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import CLASSIFIER_KIND, Classifier, ClassifierArgs
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


@pytest.fixture
def make_run() -> Callable[[Path], Path]:
    """Write a run of one small untrained classifier that sees 4 slices of (8, 32, 32) voxels."""

    def make(folder: Path) -> Path:
        network = ClassifierArgs(backbone="test_efficientnet", hidden=8)
        torch.manual_seed(0)
        metadata = {
            "kind": CLASSIFIER_KIND,
            "classifier": to_tree(network),
            "preprocess": to_tree(PreprocessArgs(size=(8, 32, 32))),
            "readout": to_tree(ReadoutArgs(slices=4, crop=28)),
            "targets": {name: list(target.classes) for name, target in TARGETS.items()},
        }
        folder.mkdir(parents=True)
        save_weights(folder / "fold_0.safetensors", Classifier(network).eval().state_dict(), metadata)
        return folder

    return make
