"""What CONTRIBUTING says of adding a part is enough: each is added as told there, and works by the commands.

A backbone, a method and an aggregator are entries of registries, put there for a test. A reader and a metric take a
change of a module; they are made in a copy of the package.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from voco2d.cli import main
from voco2d.data.datasets import DATASETS
from voco2d.data.view_dataset import ViewDataset
from voco2d.methods.method import Batch, Method, StepOutput
from voco2d.methods.registry import METHODS, MethodArgs, MethodEntry
from voco2d.methods.view_args import SimCLRArgs
from voco2d.methods.view_encoder import ViewEncoder, by_view
from voco2d.models.aggregators import AGGREGATORS, Aggregator, AggregatorArgs
from voco2d.models.checkpoint import load_backbone, newest_weights, read_weights
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training.pretrain_args import PretrainArgs

ROOT = Path(__file__).parents[2]
PRETRAIN = ("steps=2", "checkpoint_every=2", "batch_size=2", "device=cpu", "writers=[]")


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def test_every_answer_is_tried_out_here() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"^### (.+)$", text.partition("## Where do I add")[2], re.MULTILINE)
    assert answers == [
        "A backbone",
        "A self-supervised method",
        "A reader",
        "A target",  # tests/test_targets.py
        "A metric",
        "An aggregator, or a pooling",
        "Anything else",  # a table of rooms
    ]


def test_a_backbone_is_a_name_of_timm(cohort: Path, tmp_path: Path) -> None:
    words = ("backbone=test_resnet", "method.crop=16", "method.slices=2", "method.hidden=16", *PRETRAIN)
    run("pretrain", cohort / "store", "--out", tmp_path / "run", *words)
    backbone = load_backbone(tmp_path / "run")
    assert backbone(torch.rand(1, 1, 32, 32)).ndim in (2, 4)


@dataclass(frozen=True)
class PairArgs(SimCLRArgs):
    """Settings of a method of this test; `name` is its key."""

    name: Literal["pair"] = "pair"


class Pair(Method):
    """Pulls the two views of a slice together."""

    def __init__(self, backbone: nn.Module, args: PairArgs) -> None:
        super().__init__()
        self.student = ViewEncoder(backbone, args.crop, lambda width: nn.Linear(width, args.out))

    def encode(self, units: torch.Tensor, seeds: Sequence[int] | None = None) -> torch.Tensor:
        del seeds
        return self.student.pooled(units)

    def contrast(self, student: torch.Tensor, teacher: torch.Tensor | None, batch: Batch) -> StepOutput:
        del teacher, batch
        projected = self.student.project(student)
        first, second = by_view(projected)
        return StepOutput({"apart": (first - second).square().mean()}, projected.detach())

    def networks(self) -> Mapping[str, nn.Module]:
        return {"student": self.student}


def test_a_method_is_a_module_and_three_entries(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "pair", MethodEntry(PairArgs, Pair))
    monkeypatch.setitem(DATASETS, "pair", ViewDataset)
    monkeypatch.setitem(PretrainArgs.__annotations__, "method", MethodArgs | PairArgs)  # its entry in the union
    words = ("method.name=pair", "method.crop=32", "method.slices=2", "method.out=8", "backbone=test_efficientnet")
    run("pretrain", cohort / "store", "--out", tmp_path / "run", *words, *PRETRAIN, "log_every=1")
    weights, metadata = read_weights(newest_weights(tmp_path / "run"))
    assert metadata["method"]["name"] == "pair"
    assert any(name.startswith("student.projector.") for name in weights)
    assert "apart" in json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])


class MedianAggregator(Aggregator):
    """Median over the slices."""

    def __init__(self, in_features: int, args: AggregatorArgs) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.num_features = in_features

    def states(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def reduce(self, states: torch.Tensor) -> torch.Tensor:
        return states.median(dim=1)[0]


def test_an_aggregator_is_a_class_and_an_entry(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATORS, "median", MedianAggregator)
    out, table = tmp_path / "run", tmp_path / "predictions.csv"
    words = ("aggregator=median", "folds=2", "fold=0", "epochs=1", "readout.slices=4", "readout.crop=36", "device=cpu")
    given = ("--labels", cohort / "RSNA" / "train.csv", "--init", "random", "--out", out)
    run("finetune", cohort / "store", *given, "backbone=test_efficientnet", *words)
    patient = next((cohort / "RSNA" / "train_images").iterdir())
    run("predict", patient, "--model", out, "--gates", "off", "--out", table)
    assert pd.read_csv(table)[list(CLASS_COLUMNS)].notna().all(axis=None)


NPZ = '''
"""Reads an array `hu` of Hounsfield units, and `spacing_mm`, from a NumPy archive."""

import numpy as np

from voco2d.io.array_volume import FileIds, array_volume
from voco2d.io.orientation import PATIENT_AXES, axes_affine


def read_npz(source, args):
    with np.load(source.path) as archive:
        hu, spacing_mm = archive["hu"], tuple(archive["spacing_mm"].tolist())
    ids = FileIds(source.path.stem, "", source.path.stem)
    affine = axes_affine(PATIENT_AXES, spacing_mm)
    return array_volume(hu, affine, source, args, lambda voxels: (voxels, ()), ids), ()
'''
CHANGES = {
    "io/readers.py": {
        '"dicom": read_dicom,': '"npz": read_npz, "dicom": read_dicom,',
        "from voco2d.io.numpy_array": "from voco2d.io.npz import read_npz\nfrom voco2d.io.numpy_array",
    },
    "io/discover.py": {
        '    elif name.endswith(".npy"):': '    elif name.endswith(".npz"):\n'
        '        sources.append(Source("npz", path, (path,)))\n'
        '    elif name.endswith(".npy"):'
    },
    "evaluation/metrics.py": {
        '"specificity", "f1")': '"specificity", "f1", "jaccard")',
        '        "f1": ': '        "jaccard": occurs * hits / np.maximum(called + positive - hits, 1),\n        "f1": ',
    },
}
USE = """
import json, sys
import pandas as pd
from voco2d import read_volume
from voco2d.evaluation.evaluate import evaluate

volume = read_volume(sys.argv[1])
labels, predictions = (pd.read_csv(path, dtype={"patient_id": str}) for path in sys.argv[2:4])
scores = evaluate(predictions, labels, bootstrap=20)
print(json.dumps({"shape": volume.hu.shape, "patient": volume.patient_id, "scores": scores}))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Change a copy of the package as CONTRIBUTING says, and use it in a process of its own."""
    folder = tmp_path_factory.mktemp("changed")
    package = folder / "src" / "voco2d"
    shutil.copytree(ROOT / "src" / "voco2d", package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name, replacements in CHANGES.items():
        text = (package / name).read_text(encoding="utf-8")
        for old, new in replacements.items():
            assert text.count(old) == 1, f"{name}: {old}"
            text = text.replace(old, new)
        (package / name).write_text(text, encoding="utf-8")
    (package / "io" / "npz.py").write_text(NPZ.lstrip(), encoding="utf-8")
    np.savez(folder / "scan.npz", hu=np.zeros((6, 20, 20), np.int16), spacing_mm=[5.0, 1.0, 1.0])
    labels, predictions = _tables(40)
    labels.to_csv(folder / "labels.csv", index=False)
    predictions.to_csv(folder / "predictions.csv", index=False)
    files = (folder / name for name in ("scan.npz", "labels.csv", "predictions.csv"))
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    told = subprocess.run(
        [sys.executable, "-c", USE, *files], env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    answer: dict[str, object] = json.loads(told.stdout.splitlines()[-1])
    return answer | {"labels": labels, "predictions": predictions}


def _tables(patients: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    ids = pd.DataFrame({"patient_id": [str(1000 + number) for number in range(patients)]})
    truth, said = [], []
    for target in TARGETS.values():
        grades = np.arange(patients) % len(target.classes)
        truth.append(pd.DataFrame(np.eye(len(target.classes), dtype=int)[grades], columns=list(target.columns)))
        said.append(pd.DataFrame(rng.dirichlet(np.ones(len(target.classes)), patients), columns=list(target.columns)))
    return pd.concat([ids, *truth], axis=1), pd.concat([ids, *said], axis=1)


def test_a_reader_is_a_module_an_entry_and_how_its_files_are_told(changed: dict[str, object]) -> None:
    assert (changed["shape"], changed["patient"]) == ([6, 20, 20], "scan")


def test_a_metric_by_the_decision_rule_is_a_name_and_a_formula(changed: dict[str, object]) -> None:
    scores, labels, predictions = changed["scores"], changed["labels"], changed["predictions"]
    found, called = labels["bowel_injury"] == 1, predictions["bowel_injury"] >= 0.5
    expected = (found & called).sum() / (found | called).sum()
    assert scores["targets"]["bowel"]["jaccard"] == pytest.approx(expected)
    low, high = scores["intervals"]["targets"]["bowel"]["jaccard"]
    assert low < expected < high
    assert 0 < scores["jaccard"] < 1  # the mean over the injuries
