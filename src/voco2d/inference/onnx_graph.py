"""Classifiers of one ensemble as a single ONNX graph with free numbers of volumes and slices."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import CheckpointError
from voco2d.extras import require
from voco2d.inference.onnx_package import INPUT_NAME, MEAN_NAME
from voco2d.inference.runtime import FEATURES
from voco2d.models.classifier import Classifier
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.version import VERSION

OPSET: Final = 20
"""ONNX operators of this version; the first with GELU, and read by ONNX Runtime from 1.17 on."""

_LARGEST_FILE: Final = 1_800_000_000
"""Bytes of weights from which they lie beside the graph: a protocol buffer holds 2 GiB."""


class EnsembleGraph(nn.Module):
    """What is exported: the mean over the folds, and each fold's own answer.

    Args:
        classifiers: In evaluation mode, on the CPU, all for the same images.
    """

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(classifiers)
        self.backbone = classifiers[0].args.backbone
        self.targets = classifiers[0].targets

    def forward(self, volumes: Float[Tensor, "B S C H W"]) -> tuple[Tensor, ...]:
        """Grade volumes.

        Args:
            volumes: (B, S, C, H, W) windowed slices from superior to inferior, 0…1.

        Returns:
            In the order of `output_names`: the mean probabilities (B, all classes), then a fold's logits (B, classes),
            target by target, and its features (B, D).
        """
        answers: list[Tensor] = []
        probabilities: list[Tensor] = []
        for classifier in self.folds:
            assert isinstance(classifier, Classifier)
            vectors = classifier.slice_features(volumes)  # (B, S, D)
            logits = classifier.grade_features(vectors)
            answers += [*(logits[name] for name in self.targets), vectors.mean(dim=1)]
            probabilities.append(torch.cat([logits[name].softmax(dim=1) for name in self.targets], dim=1))
        return torch.stack(probabilities).mean(dim=0), *answers


def fold_outputs(index: int, targets: TargetSet = RSNA_2023) -> dict[str, str]:
    """Return target name, and `FEATURES`, → what the graph calls that output of its fold `index`."""
    return {name: f"fold_{index}_{name}" for name in (*targets, FEATURES)}


def output_names(folds: int, targets: TargetSet = RSNA_2023) -> list[str]:
    """Name the outputs of a graph with as many folds, in their order."""
    return [MEAN_NAME, *(name for index in range(folds) for name in fold_outputs(index, targets).values())]


def write_graph(model: EnsembleGraph, image: tuple[int, int, int], path: Path, about: Mapping[str, str]) -> None:
    """Write a graph as ONNX.

    Args:
        model: In evaluation mode, on the CPU.
        image: C, H, W of a slice, which are fixed; batch and slices are free.
        path: The file; very large weights go into `<name>.data` beside it.
        about: Properties that the file carries.

    Raises:
        UsageError: The packages of the extra `onnx` are missing.
        CheckpointError: The network does what can't be written as ONNX.
    """
    require("onnxscript", "onnx", "writing ONNX")
    free = ({0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("slices", min=1)},)
    settings: dict[str, Any] = {
        "input_names": [INPUT_NAME],
        "output_names": output_names(len(model.folds), model.targets),
    }
    example = torch.zeros(2, 3, *image)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of itself
            program = torch.onnx.export(
                model, (example,), dynamo=True, dynamic_shapes=free, opset_version=OPSET, verbose=False, **settings
            )
    except Exception as error:  # its steps raise errors of several libraries, with pages of words
        raise CheckpointError(
            f"{model.backbone}: torch's exporter can't write this network as ONNX ({type(error).__name__}); use "
            "another backbone, or predict with --runtime torch"
        ) from error
    assert program is not None
    _describe(program.model, about)
    program.save(path, external_data=_bytes(model) > _LARGEST_FILE)


def _describe(graph: Any, about: Mapping[str, str]) -> None:
    """Sign the file, and take out what the exporter tells of the machine: paths of its sources, with line numbers."""
    graph.producer_name, graph.producer_version = "voco2d", VERSION
    graph.metadata_props.clear()
    graph.metadata_props.update(about)
    for part in (graph.graph, *graph.functions.values()):
        part.metadata_props.clear()
        for node in part.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*part.inputs, *getattr(part, "initializers", {}).values()):
            value.metadata_props.clear()


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
