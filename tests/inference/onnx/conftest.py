"""A small run whose answers depend on what it sees, and the package exported from it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from voco2d.config import to_tree
from voco2d.data.phantom import PhantomArgs, make_series
from voco2d.evaluation.scaler_file import scalers_text
from voco2d.evaluation.scaling import Scaler
from voco2d.inference.export import Export, export_package
from voco2d.io.volume import Volume
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import CLASSIFIER_KIND, Classifier, ClassifierArgs
from voco2d.models.feature_distance import fit_feature_distance
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.targets import TARGETS

PREPROCESS = PreprocessArgs(size=(16, 40, 40))
READOUT = ReadoutArgs(slices=6, crop=32, window=(-100.0, 200.0), neighbours=1, more_windows=((-500.0, 1300.0),))
NETWORK = ClassifierArgs(backbone="test_efficientnet", hidden=8, in_chans=READOUT.channels, pooling="gem")


def _alive(classifier: Classifier) -> Classifier:
    """Let batch norm see images and make the heads outspoken: fresh ones answer alike whatever they see."""
    images = torch.rand(4, 6, classifier.args.in_chans, 32, 32) * torch.linspace(0.1, 1, 4).reshape(4, 1, 1, 1, 1)
    with torch.no_grad():
        for _ in range(20):
            classifier.train()(images)
        for head in classifier.heads.values():
            head.weight.mul_(20)
    return classifier.eval()


@pytest.fixture(scope="session")
def alive() -> Callable[[ClassifierArgs, int], Classifier]:
    """Build a classifier, from a seed, whose answers depend on what it sees."""

    def build(args: ClassifierArgs, seed: int) -> Classifier:
        torch.manual_seed(seed)
        return _alive(Classifier(args))

    return build


@pytest.fixture(scope="session")
def phantoms() -> list[Volume]:
    args = PhantomArgs(size=96, mean_slices=20, two_series_share=0.0)
    direction = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    series = [make_series(0, patient, args)[0] for patient in range(2)]
    return [Volume(one.hu, one.spacing_mm, direction, (0.0, 0.0, 0.0), "p", "", "s", "phantom") for one in series]


@pytest.fixture(scope="session")
def onnx_run(tmp_path_factory: pytest.TempPathFactory, alive: Callable[[ClassifierArgs, int], Classifier]) -> Path:
    """Two folds, the first with a feature distance, and a calibration."""
    run = tmp_path_factory.mktemp("onnx") / "run"
    run.mkdir()
    for fold in range(2):
        classifier = alive(NETWORK, fold)
        metadata = {
            "kind": CLASSIFIER_KIND,
            "classifier": to_tree(NETWORK),
            "preprocess": to_tree(PREPROCESS),
            "readout": to_tree(READOUT),
            "test_flips": ["width"],
            "targets": {name: list(target.classes) for name, target in TARGETS.items()},
            "fold": fold,
            "init": "random",
            "patients_seen": ["0123456789abcdef"],
        }
        width = classifier.slice_features(torch.zeros(1, 1, READOUT.channels, 32, 32)).shape[-1]
        rows = np.random.default_rng(0).normal(size=(40, width))
        distance = fit_feature_distance(rows[:30], rows[30:]) if fold == 0 else None
        kept = {name: torch.from_numpy(array) for name, array in (distance.arrays() if distance else {}).items()}
        save_weights(run / f"fold_{fold}.safetensors", {**classifier.state_dict(), **kept}, metadata)
    scalers = {name: Scaler(2.0, (1.0,) * len(target.classes)) for name, target in TARGETS.items()}
    (run / "calibration.json").write_text(scalers_text(scalers, {}))
    return run


@pytest.fixture(scope="session")
def exported(onnx_run: Path, phantoms: list[Volume]) -> Export:
    return export_package(onnx_run, onnx_run.parent / "package", phantoms, "cc-by-4.0")


@pytest.fixture(scope="session")
def scan(onnx_run: Path) -> Path:
    rows, columns = np.mgrid[:48, :48]
    body = (rows - 24) ** 2 + (columns - 24) ** 2 < 22**2
    hu = np.where(body, 40, -1000) + np.random.default_rng(0).integers(-80, 80, (20, 48, 48))
    path = onnx_run.parent / "scan.npy"
    np.save(path, hu.astype(np.int16))
    sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": "a"}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path
