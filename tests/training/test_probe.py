import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from voco2d.config import from_tree, to_tree
from voco2d.errors import ConfigError, LabelError, UsageError
from voco2d.models.backbones import build_backbone
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import TARGETS
from voco2d.training.probe import Probe, ProbeArgs, vote

PATIENTS = 24
WINDOW = (-175.0, 250.0)


def is_injured(number: int) -> bool:
    return number % 3 == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    """Patients of noise, the injured ones with a bright half; the first has two series."""
    folder = tmp_path_factory.mktemp("patients")
    rng = np.random.default_rng(0)
    for number in range(PATIENTS + 1):
        patient = number % PATIENTS
        volume = rng.normal(0, 40, (6, 40, 40))
        volume[:, :, :20] += 120 * is_injured(patient)
        np.save(folder / f"{number}.npy", volume.astype(np.int16))
        sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{patient:02d}"}
        (folder / f"{number}.json").write_text(json.dumps(sidecar))
    args = PrepareArgs(preprocess=PreprocessArgs(size=(6, 40, 40), body_crop=False), workers=1)
    return VolumeStore(prepare([folder], folder / "store", args).store)


def write_labels(path: Path, injured: Sequence[bool]) -> str:
    """Write labels in which the liver and the bowel are injured, and nothing else is."""
    table = pd.DataFrame({"patient_id": [f"p{number:02d}" for number in range(len(injured))]})
    for name, target in TARGETS.items():
        for grade, column in enumerate(target.columns):
            sick = np.array(injured) & (name in ("bowel", "liver"))
            table[column] = np.where(sick, grade == len(target.classes) - 1, grade == 0).astype(int)
    table.to_csv(path, index=False)
    return str(path)


@pytest.fixture
def labels(tmp_path: Path) -> str:
    return write_labels(tmp_path / "labels.csv", [is_injured(number) for number in range(PATIENTS)])


class Intensity(nn.Module):
    """A backbone whose features are the mean of each half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        halves = images.unflatten(-1, (2, -1)).mean((1, 2, 4))
        return (halves * self.scale)[:, :, None, None].expand(-1, -1, 3, 3)


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_features_that_tell_the_injured_score_one(store: VolumeStore, labels: str, kind: str) -> None:
    args = from_tree(ProbeArgs, {"labels": labels, "kind": kind, "neighbours": 3, "folds": 3})
    measured = Probe(store, args, WINDOW).measure(Intensity())
    assert measured["probe_auroc"] == measured["probe_auroc_liver"] == measured["probe_auroc_bowel"] == 1.0
    assert all(math.isnan(measured[f"probe_auroc_{name}"]) for name in ("kidney", "spleen", "extravasation"))


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_labels_that_have_nothing_to_do_with_the_features_score_chance(
    store: VolumeStore, tmp_path: Path, kind: str
) -> None:
    areas = []
    for seed in range(8):
        drawn = np.random.default_rng(seed).permutation([True] * 8 + [False] * 16)
        path = write_labels(tmp_path / f"{seed}.csv", drawn.tolist())
        args = from_tree(ProbeArgs, {"labels": path, "kind": kind, "neighbours": 5, "folds": 3})
        areas.append(Probe(store, args, WINDOW).measure(Intensity())["probe_auroc"])
    assert np.mean(areas) == pytest.approx(0.5, abs=0.12)


def test_it_is_repeatable_and_leaves_no_trace(store: VolumeStore, labels: str) -> None:
    torch.manual_seed(3)
    backbone = build_backbone("test_efficientnet").train()
    frozen = next(module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = [module.training for module in backbone.modules()]
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    probe = Probe(store, ProbeArgs(labels=labels, folds=3), WINDOW)
    first, second = probe.measure(backbone), probe.measure(backbone)
    assert first["probe_auroc"] == second["probe_auroc"]
    assert [module.training for module in backbone.modules()] == modes
    assert not frozen.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_modes_come_back_after_an_error(store: VolumeStore, labels: str) -> None:
    class Broken(Intensity):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError(f"out of memory for {len(images)} images")

    broken = Broken().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        Probe(store, ProbeArgs(labels=labels, folds=3), WINDOW).measure(broken)
    assert broken.training


def test_each_series_of_a_patient_is_read_as_large_as_it_can_be(store: VolumeStore, labels: str) -> None:
    backbone = Intensity()
    Probe(store, ProbeArgs(labels=labels, folds=3), WINDOW).measure(backbone)
    assert backbone.shapes == [(6, 1, 40, 40)] * (PATIENTS + 1)
    Probe(store, ProbeArgs(labels=labels, folds=3, slices=2, crop=16, patients=20), WINDOW).measure(backbone)
    assert backbone.shapes[PATIENTS + 1 :] == [(2, 1, 16, 16)] * 21


def test_patients_that_are_left_out_of_pretraining_are_not_probed(
    store: VolumeStore, labels: str, caplog: pytest.LogCaptureFixture
) -> None:
    left_out = {f"p{number:02d}" for number in range(6)}
    backbone = Intensity()
    with caplog.at_level(logging.WARNING):
        Probe(store, ProbeArgs(labels=labels, folds=3), WINDOW, left_out).measure(backbone)
    assert len(backbone.shapes) == PATIENTS - 6
    assert "6 labelled patients that pretraining leaves out are not probed" in caplog.text
    everyone = {f"p{number:02d}" for number in range(PATIENTS)}
    with pytest.raises(LabelError, match=r"probe.held_out=true"):
        Probe(store, ProbeArgs(labels=labels, folds=3), WINDOW, everyone)
    declared = Intensity()
    Probe(store, ProbeArgs(labels=labels, folds=3, held_out=True), WINDOW, everyone).measure(declared)
    assert len(declared.shapes) == PATIENTS + 1


def test_the_most_similar_vote_by_their_similarity() -> None:
    known = np.eye(3, dtype=np.float32)
    injured = np.array([True, False, True])
    query = np.array([[0.8, 0.6, 0.0]], dtype=np.float32)
    assert vote(query, known, injured, 1).tolist() == [1.0]
    expected = 1 / (1 + math.exp((0.6 - 0.8) / 0.07))
    assert vote(query, known, injured, 2) == pytest.approx([expected])


def test_settings_are_strict() -> None:
    args = ProbeArgs(every=100)
    assert from_tree(ProbeArgs, to_tree(args)) == args
    for values in ({"every": 0}, {"folds": 1}, {"neighbours": 0}, {"crop": 0}):
        with pytest.raises(ConfigError, match=f"probe.{next(iter(values))}="):
            ProbeArgs(**values)


def test_due_steps_and_a_missing_table(store: VolumeStore, labels: str) -> None:
    probe = Probe(store, ProbeArgs(labels=labels, every=100, folds=3), WINDOW)
    assert [step for step in range(1, 301) if probe.is_due(step)] == [100, 200, 300]
    with pytest.raises(UsageError, match="no such file"):
        Probe(store, ProbeArgs(labels=labels + "x"), WINDOW)
