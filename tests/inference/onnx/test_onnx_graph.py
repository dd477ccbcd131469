from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voco2d.errors import CheckpointError
from voco2d.inference import onnx_graph
from voco2d.inference.onnx_graph import EnsembleGraph, write_graph
from voco2d.inference.onnx_runtime import open_session
from voco2d.inference.parity import measure_parity, parity_inputs
from voco2d.models.aggregators import AGGREGATORS
from voco2d.models.classifier import Classifier, ClassifierArgs
from voco2d.models.pooling import POOLINGS

Alive = Callable[[ClassifierArgs, int], Classifier]


def _member(backbone: str, in_chans: int, aggregator: str, pooling: str, layers: int = 1) -> ClassifierArgs:
    return ClassifierArgs(
        backbone, in_chans, aggregator, hidden=8, pooling=pooling, layers=layers, bidirectional=layers == 1
    )


FAMILY = {
    "recurrent": (
        _member("test_byobnet", 1, "lstm", "avg"),
        _member("test_byobnet", 1, "lstm", "max", layers=2),
        _member("test_byobnet", 1, "gru", "gem"),
        _member("test_byobnet", 1, "gru", "both", layers=2),
    ),
    "others, neighbours and windows as channels": (
        _member("test_resnet", 6, "transformer", "both"),
        _member("test_resnet", 6, "attention", "gem"),
        _member("test_resnet", 6, "mean", "avg"),
        replace(_member("test_resnet", 6, "max", "max"), slice_targets=("bowel",)),
    ),
}


def test_the_family_is_complete() -> None:
    members = [args for group in FAMILY.values() for args in group]
    assert {args.aggregator for args in members} == set(AGGREGATORS)
    assert {args.pooling for args in members} == set(POOLINGS)


@pytest.mark.slow
@pytest.mark.parametrize("group", FAMILY)
def test_onnx_runtime_says_what_torch_says(group: str, tmp_path: Path, alive: Alive) -> None:
    model = EnsembleGraph([alive(args, seed) for seed, args in enumerate(FAMILY[group])]).eval()
    image = (FAMILY[group][0].in_chans, 32, 32)
    write_graph(model, image, tmp_path / "model.onnx", {})
    session = open_session(tmp_path / "model.onnx")
    volumes = list(np.random.default_rng(1).random((2, 7, *image), np.float32))
    parity = measure_parity(model, session, parity_inputs(volumes, image, 7))
    assert parity.holds, parity.tree()
    assert len({(case.volumes, case.slices) for case in parity.cases}) >= 5
    answers = session.run(None, {"volumes": np.stack([np.zeros_like(volumes[0]), volumes[0]])})
    apart = [np.abs(answer[0] - answer[1]).max() for answer in answers]
    assert min(apart) > 1e-3, apart  # were an answer the same for all images, agreeing on it would say nothing


@pytest.mark.slow
def test_a_network_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path, alive: Alive) -> None:
    args = ClassifierArgs("test_resnet", aggregator="mean")
    model = EnsembleGraph([alive(args, 0)]).eval()

    def peek(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].sum() > 0:  # what depends on values can't be traced
            raise ValueError("bright")

    model.folds[0].pooling.register_forward_pre_hook(peek)
    with pytest.raises(CheckpointError, match="test_resnet: torch's exporter can't write this network") as refused:
        write_graph(model, (1, 32, 32), tmp_path / "model.onnx", {})
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_large_weights_lie_beside_the_graph(tmp_path: Path, alive: Alive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "_LARGEST_FILE", 1000)
    model = EnsembleGraph([alive(ClassifierArgs("test_resnet", aggregator="mean"), 0)]).eval()
    write_graph(model, (1, 32, 32), tmp_path / "model.onnx", {})
    assert (tmp_path / "model.onnx.data").stat().st_size > (tmp_path / "model.onnx").stat().st_size
    volumes = [np.random.default_rng(1).random((7, 1, 32, 32), np.float32)]
    parity = measure_parity(model, open_session(tmp_path / "model.onnx"), parity_inputs(volumes, (1, 32, 32), 7))
    assert parity.holds
