import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from voco2d.data.cohort import patient_digests
from voco2d.errors import CheckpointError
from voco2d.inference.report_ablation import write_ablation
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import read_weights, save_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore
from voco2d.training.ablation import ablation_arms, held_out_patients, run_ablation
from voco2d.training.localisation import measure_localisation
from voco2d.training.optim import OptimArgs
from voco2d.training.pretrain import PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import weights_path

METHOD = VoCoArgs(grid=2, crop=32, slices=2, hidden=16)
ARGS = PretrainArgs(
    backbone="test_efficientnet", steps=2, batch_size=2, device="cpu", method=METHOD, optim=OptimArgs(lr=1e-3)
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients whose four quarters have different textures, so that a crop's place can be seen."""
    folder = tmp_path_factory.mktemp("quarters")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    stripes = np.stack([rows // 2 % 2, columns // 2 % 2, (rows + columns) // 4 % 2, np.ones_like(rows)])
    pattern = np.take_along_axis(stripes, (2 * (rows >= 32) + (columns >= 32))[None], 0)[0] * 300 - 150
    for number in range(10):
        hu = pattern + rng.integers(-20, 20, (6, 64, 64))
        np.save(folder / f"{number}.npy", hu.astype(np.int16))
        sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"}
        (folder / f"{number}.json").write_text(json.dumps(sidecar))
    args = PrepareArgs(preprocess=PreprocessArgs(size=(6, 64, 64), body_crop=False), workers=1)
    return Path(str(prepare([folder], folder / "store", args).store))


def test_every_correction_is_taken_back_in_an_arm_of_its_own() -> None:
    base = replace(METHOD, grid=3)
    arms = ablation_arms(base)
    assert arms[0].method == base
    assert arms[-1].method == replace(base, **PAPER_V2)
    assert len({arm.name for arm in arms}) == len(arms) == 14
    undone: set[str] = set()
    for arm in arms[1:-1]:
        keys = {key for key in vars(base) if getattr(arm.method, key) != getattr(base, key)}
        assert keys, arm.name
        assert all(getattr(arm.method, key) == PAPER_V2[key] for key in keys)
        assert not keys & undone
        assert all(key in arm.name for key in keys)
        undone |= keys
    assert undone == {key for key in PAPER_V2 if PAPER_V2[key] != getattr(VoCoArgs(), key)}


@pytest.mark.slow
def test_an_ablation_is_a_table_of_runs_that_goes_on(store: Path, tmp_path: Path) -> None:
    table = run_ablation(store, tmp_path / "study", ARGS, seeds=(0,), held_out=0.3)
    assert list(table["arm"]) == [arm.name for arm in ablation_arms(METHOD)]
    assert table["localisation_accuracy"].between(0, 1).all()
    assert (table["low"] <= table["localisation_accuracy"]).all()
    assert (table["localisation_accuracy"] <= table["high"]).all()
    assert table["chance"].between(0.25, 0.4).all()
    assert (table["volumes"] == 3).all()
    held_out = json.loads((tmp_path / "study" / "held_out.json").read_text())["digests"]
    weights = sorted((tmp_path / "study").glob("*/weights_*.safetensors"))
    assert len(weights) == 14
    assert all(not set(held_out) & set(read_weights(file)[1]["patients_seen"]) for file in weights)
    before = {file: file.stat().st_mtime_ns for file in weights}
    again = run_ablation(store, tmp_path / "study", ARGS, seeds=(0,), held_out=0.3)
    pd.testing.assert_frame_equal(again, table)
    assert {file: file.stat().st_mtime_ns for file in weights} == before
    page = write_ablation(table, tmp_path / "study").read_text()
    assert all(arm in page for arm in table["arm"])


def test_held_out_patients_hang_on_their_ids_alone() -> None:
    patients = [f"p{number}" for number in range(40)]
    chosen = held_out_patients(patients, 0.25)
    assert len(chosen) == 10
    assert held_out_patients([*reversed(patients), *patients], 0.25) == chosen
    assert patient_digests(chosen)[-1] < patient_digests(set(patients) - set(chosen))[0]


@pytest.mark.slow
def test_localisation_of_a_trained_run_is_above_an_untrained_one(store: Path, tmp_path: Path) -> None:
    args = replace(ARGS, steps=120, batch_size=4, method=replace(METHOD, feature_dropout=0.0, flips=False, hidden=64))
    volumes = VolumeStore(store)
    unseen = held_out_patients(volumes.index["patient_id"].astype(str), 0.4)
    run = pretrain(store, tmp_path / "run", args, exclude_patients=unseen)
    found = measure_localisation(run, volumes, unseen)
    assert found.hits.shape == (4,)
    assert found.accuracy > found.chance + 0.1
    again = measure_localisation(run, volumes, unseen)
    assert np.array_equal(again.hits, found.hits)
    low, high = found.interval()
    assert low <= found.accuracy <= high


def test_weights_alone_are_measured_and_other_methods_refused(store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = VoCo(build_backbone("test_efficientnet"), METHOD)
    metadata = {"kind": "pretrain", "backbone": "test_efficientnet", "in_chans": 1, "window_hu": [-175, 250]}
    file = weights_path(tmp_path, 1)
    save_weights(file, method.weights(), {**metadata, "method": vars(METHOD)})
    volumes = VolumeStore(store)
    hits = measure_localisation(file, volumes, volumes.index["patient_id"]).hits
    assert hits.shape == (10,)
    save_weights(file, method.weights(), {**metadata, "method": {"name": "simclr"}})
    with pytest.raises(CheckpointError, match="of method 'simclr'; only 2D-VoCo"):
        measure_localisation(file, volumes, volumes.index["patient_id"])


def test_an_ablation_refuses_what_is_for_studies(run: Any, store: Path, tmp_path: Path) -> None:
    code, _, error = run("study", store, "--out", tmp_path / "out", "--ablation", "--quick", "--job", "0")
    assert (code, "--quick, --job: not for --ablation" in error) == (2, True)
    assert not (tmp_path / "out").exists()
