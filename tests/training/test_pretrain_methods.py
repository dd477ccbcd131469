"""Every other method in the same loop: config, resume and what comes out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voco2d.config import from_tree, resolve, to_tree, to_yaml
from voco2d.errors import ConfigError
from voco2d.methods.registry import METHODS
from voco2d.methods.view_args import DINOArgs, SimCLRArgs
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.checkpoint import load_backbone, read_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import weights_path

pytest.importorskip("lightly")

SMALL: Mapping[str, tuple[str, ...]] = {
    "simclr": ("method.hidden=16", "method.out=8"),
    "byol": ("method.hidden=16", "method.out=8"),
    "dino": ("method.hidden=16", "method.bottleneck=8", "method.prototypes=12"),
    "simmim": (),
}
RUN = ("backbone=test_efficientnet", "device=cpu", "batch_size=2", "checkpoint_every=2", "log_every=1")
RUN += ("schedule_steps=4", "method.slices=3", "method.crop=32")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients: noise."""
    folder = tmp_path_factory.mktemp("patients")
    rng = np.random.default_rng(0)
    for number in range(4):
        np.save(folder / f"{number}.npy", rng.integers(-1000, 300, (6, 32, 32)).astype(np.int16))
        (folder / f"{number}.json").write_text(
            json.dumps({"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"})
        )
    args = PrepareArgs(preprocess=PreprocessArgs(size=(6, 32, 32), body_crop=False), workers=1)
    return prepare([folder], folder / "store", args).store


def args_of(name: str, *more: str) -> PretrainArgs:
    return resolve(PretrainArgs, name, (*RUN, *SMALL[name], *more), PRESETS)


def records_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SMALL)
def test_four_steps_are_two_and_two_more(name: str, store: Path, tmp_path: Path) -> None:
    whole = pretrain(store, tmp_path / "whole", args_of(name, "steps=4"))
    halves = pretrain(store, tmp_path / "halves", args_of(name, "steps=2"))
    pretrain(store, halves, args_of(name, "steps=4"), resume=True)
    one, other = (read_weights(weights_path(run, 4))[0] for run in (whole, halves))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    first = read_weights(weights_path(whole, 2))[0]
    stem = "student.backbone.conv_stem.weight"
    assert not torch.equal(first[stem], one[stem])
    assert all(np.isfinite(record["loss"]) for record in records_of(whole))
    assert "localisation_accuracy" not in records_of(whole)[-1]


@pytest.mark.parametrize("name", SMALL)
def test_backbones_load_and_the_method_is_told(name: str, store: Path, tmp_path: Path) -> None:
    args = args_of(name, "steps=1", "chunk=4", "precision=bf16")
    run = pretrain(store, tmp_path / "run", args)
    weights, metadata = read_weights(weights_path(run, 1))
    assert from_tree(METHODS[name].args, metadata["method"]) == args.method
    assert resolve(PretrainArgs, run / "config.yaml") == args
    backbone = load_backbone(run)
    assert torch.equal(backbone.state_dict()["conv_stem.weight"], weights["student.backbone.conv_stem.weight"])
    assert backbone(torch.rand(2, 1, 64, 64)).shape == (2, 256)


def test_another_method_is_another_run(store: Path, tmp_path: Path) -> None:
    run = pretrain(store, tmp_path / "run", args_of("simclr", "steps=1"))
    with pytest.raises(ConfigError, match=r"method.name was 'simclr', now 'byol'"):
        pretrain(store, run, args_of("byol", "steps=2"), resume=True)


def test_a_method_is_chosen_by_its_name() -> None:
    args = resolve(PretrainArgs, None, ["method.name=dino", "method.prototypes=64", "batch_size=8"], PRESETS)
    assert args == PretrainArgs(batch_size=8, method=DINOArgs(prototypes=64))
    assert type(args) is PretrainArgs
    assert resolve(PretrainArgs, None, ["method.grid=4"]).method == VoCoArgs(grid=4)
    assert from_tree(PretrainArgs, to_tree(args)) == args


def test_yaml_comes_back(tmp_path: Path) -> None:
    args = PretrainArgs(method=SimCLRArgs(area=(0.1, 0.2)))
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(args))
    assert resolve(PretrainArgs, file) == args


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.name=moco"], "method.name: 'moco' is not one of voco, simclr, byol, dino, simmim"),
        (["method.name=3"], "method.name: '3' is not one of voco, simclr, byol, dino, simmim"),
        (["method=simclr"], "'method' is a section; its keys: method.name, method.loss, "),
        (
            ["method.name=simclr", "method.grid=3"],
            "unknown key 'method.grid'; known keys: method.name, method.slices, method.crop, method.area, "
            "method.flips, method.intensity, method.blur, method.shuffle, method.hidden, method.out, "
            "method.temperature",
        ),
        (["method.temperature=3"], "unknown key 'method.temperature'; known keys: method.name, method.loss, "),
        (["method.name=simclr", "method.out=x", "steps=y"], "method.out: 'x' is not a whole number; steps: 'y'"),
    ],
)
def test_a_wrong_method_or_key_lists_the_right_ones(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(PretrainArgs, None, words, PRESETS)
    assert message in str(caught.value)


def test_a_step_of_each_preset_encodes_as_many_images() -> None:
    counts = {name: resolve(PretrainArgs, name, (), PRESETS).images_per_step for name in ("voco2d", *SMALL)}
    assert set(counts.values()) == {4 * 11 * 32}
