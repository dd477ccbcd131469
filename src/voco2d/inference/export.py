"""Writes a fine-tuned run as an ONNX package, if ONNX Runtime then says what torch says."""

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from safetensors.numpy import save_file

from voco2d.durable import write_durably
from voco2d.errors import CheckpointError, UsageError
from voco2d.inference import onnx_package as package
from voco2d.inference.onnx_graph import OPSET, EnsembleGraph, fold_outputs, write_graph
from voco2d.inference.onnx_runtime import open_session
from voco2d.inference.package_card import package_card
from voco2d.inference.parity import TOLERANCE, Parity, measure_parity, parity_inputs
from voco2d.inference.results import NOTICE
from voco2d.inference.settings import ModelSettings, common_metadata
from voco2d.inference.torch_free import requirements_text
from voco2d.inference.torch_runtime import fold_files
from voco2d.io.volume import Volume
from voco2d.models.checkpoint import Metadata
from voco2d.models.classifier import Classifier, load_graded
from voco2d.models.feature_distance import FeatureDistance
from voco2d.preprocessing.preprocess import prepare_volume
from voco2d.preprocessing.readout import read_channels
from voco2d.version import VERSION, installed_version

_VERSIONS: Final = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Export:
    """What `export_package` wrote.

    Args:
        path: The folder.
        folds: Number of classifiers in it.
        parity: What was measured.
        files: Names of its files.
    """

    path: Path
    folds: int
    parity: Parity
    files: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    """A run that was loaded: a file, its network and what was fitted with it, one a fold."""

    files: Sequence[Path]
    classifiers: Sequence[Classifier]
    distances: Sequence[FeatureDistance | None]
    metadata: Metadata
    settings: ModelSettings

    @property
    def image(self) -> tuple[int, int, int]:
        """C, H, W of a slice."""
        readout = self.settings.readout
        return readout.channels, readout.crop, readout.crop


def export_package(run: Path, out: Path, phantoms: Sequence[Volume], licence: str = "unknown") -> Export:
    """Write the classifiers of a run as one ONNX model with all that is needed to use it.

    Args:
        run: A run folder of `voco2d finetune`, or the weights of one fold.
        out: The folder to be written; it must not exist.
        phantoms: At least one volume that parity is measured on, beside noise.
        licence: SPDX id of the weights, or `unknown`.

    Raises:
        UsageError: `out` exists, or the packages of the extra `onnx` are missing.
        CheckpointError: The run is missing or damaged, its network can't be written as ONNX, or ONNX Runtime says
            something else than torch: nothing is written then but `<out>.parity.json`.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out}: exists already, and a package is never replaced; name another --out or remove it")
    loaded = _load(run)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    try:
        parity = _write_model(loaded, partial, phantoms)
        if not parity.holds:
            report = out.with_name(f"{out.name}.parity.json")
            report.write_text(_json(_with_versions(parity)), encoding="utf-8")
            raise CheckpointError(
                f"{run}: not exported: ONNX Runtime and torch lie {parity.worst:.2g} apart where {TOLERANCE:g} is "
                f"allowed, see {report}"
            )
        _write_rest(loaded, partial, parity, licence)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Export(out, len(loaded.files), parity, tuple(sorted(file.name for file in out.iterdir())))


def _load(run: Path) -> _Run:
    files = fold_files(run)
    folds = {file: load_graded(file) for file in files}
    metadata = dict(common_metadata({file: described for file, (_, described, _) in folds.items()}))
    return _Run(
        files=files,
        classifiers=[classifier for classifier, _, _ in folds.values()],
        distances=[distance for _, _, distance in folds.values()],
        metadata=metadata,
        settings=ModelSettings.from_metadata(metadata, run),
    )


def _write_model(run: _Run, folder: Path, phantoms: Sequence[Volume]) -> Parity:
    model = EnsembleGraph(run.classifiers).eval()
    path = folder / package.MODEL_NAME
    write_graph(model, run.image, path, {"use": NOTICE, "labels": ",".join(run.settings.targets.columns)})
    # a phantom has no masks of organs; where the crop lies plays no part here
    settings = replace(run.settings.preprocess, organ_crop="none")
    seen = [read_channels(prepare_volume(volume, settings).hu, run.settings.readout) for volume in phantoms]
    return measure_parity(model, open_session(path), parity_inputs(seen, run.image, run.settings.readout.slices))


def _write_rest(run: _Run, folder: Path, parity: Parity, licence: str) -> None:
    trees: Mapping[str, Any] = {
        package.MANIFEST_NAME: _manifest(run, licence),
        package.SETTINGS_NAME: run.settings.to_tree(),
        package.LABELS_NAME: package.labels_tree(run.settings.targets),
        package.PARITY_NAME: _with_versions(parity),
    }
    for name, tree in trees.items():
        (folder / name).write_text(_json(tree), encoding="utf-8")
    arrays = {
        f"fold_{index}.{name}": array
        for index, distance in enumerate(run.distances)
        if distance is not None
        for name, array in distance.arrays().items()
    }
    if arrays:
        write_durably(folder / package.DISTANCE_NAME, lambda file: save_file(arrays, file))
    calibration = run.files[0].parent / package.CALIBRATION_NAME
    if calibration.is_file():
        shutil.copyfile(calibration, folder / package.CALIBRATION_NAME)
    (folder / package.REQUIREMENTS_NAME).write_text(requirements_text(), encoding="utf-8")
    files = sorted([*(file.name for file in folder.iterdir()), package.CARD_NAME])
    card = package_card(run.metadata, len(run.files), run.settings, parity, files, licence)
    (folder / package.CARD_NAME).write_text(card, encoding="utf-8")
    package.write_sums(folder)


def _manifest(run: _Run, licence: str) -> dict[str, Any]:
    return {
        "format": package.FORMAT,
        "use": NOTICE,
        "licence": licence,
        "opset": OPSET,
        "input": {package.INPUT_NAME: ["batch", "slices", *run.image]},
        "classifier": run.metadata["classifier"],
        "folds": [
            {
                "name": file.name,
                "sha256": package.file_sha256(file),
                "outputs": fold_outputs(index, run.settings.targets),
            }
            for index, file in enumerate(run.files)
        ],
        "versions": _versions(),
    }


def _with_versions(parity: Parity) -> dict[str, Any]:
    return {**parity.tree(), "versions": _versions(), "machine": platform.machine()}


def _versions() -> dict[str, str | None]:
    installed = {name: installed_version(name) for name in _VERSIONS}
    return {"voco2d": VERSION, "python": platform.python_version(), **installed}


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"
