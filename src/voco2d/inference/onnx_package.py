"""The folder that `voco2d export` writes: a model as ONNX with all that is needed to use it; read without torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voco2d.errors import CheckpointError, ConfigError
from voco2d.target_block import described_targets, told_targets
from voco2d.targets import RSNA_2023, TargetSet

MODEL_NAME: Final = "model.onnx"
MANIFEST_NAME: Final = "package.json"
SETTINGS_NAME: Final = "preprocessing.json"
LABELS_NAME: Final = "labels.json"
PARITY_NAME: Final = "parity.json"
CARD_NAME: Final = "README.md"
REQUIREMENTS_NAME: Final = "requirements.txt"
DISTANCE_NAME: Final = "feature_distance.safetensors"
"""How far a scan lies from the training data, each fold's arrays named `fold_<i>.…`; there only if it was fitted."""
CALIBRATION_NAME: Final = "calibration.json"
"""There only if the run has one."""
SUMS_NAME: Final = "SHA256SUMS"
"""One line a file of the folder, as `sha256sum -c` reads it."""

FORMAT: Final = 1
"""Raised when older readers could misread a package."""
INPUT_NAME: Final = "volumes"
"""The model's input: (batch, slices, C, H, W) float32, 0…1."""
MEAN_NAME: Final = "probabilities"
"""The model's output for everyone: (batch, classes), the mean over the folds, in the order of `TargetSet.columns`."""


@dataclass(frozen=True)
class PackagedFold:
    """One classifier inside a package's model.

    Args:
        name: File name of the weights it was exported from.
        sha256: Of those weights, hexadecimal.
        outputs: Target name, or `voco2d.inference.runtime.FEATURES`, → name of the model's output.
    """

    name: str
    sha256: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class OnnxPackage:
    """A package whose files are all there and unchanged.

    Args:
        path: The folder.
        folds: Its classifiers, at least one.
        settings: How scans are made ready, as in the metadata of the weights (`voco2d.inference.settings.KEYS`).
        targets: What it grades.
    """

    path: Path
    folds: tuple[PackagedFold, ...]
    settings: Mapping[str, Any]
    targets: TargetSet = RSNA_2023

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_NAME

    @property
    def calibration(self) -> Path | None:
        """File of fitted scalers, or None."""
        return _if_there(self.path / CALIBRATION_NAME)

    @property
    def feature_distance(self) -> Path | None:
        """File of what was fitted on training volumes, or None."""
        return _if_there(self.path / DISTANCE_NAME)


def is_package(path: Path | str) -> bool:
    """Tell whether a folder is, or claims to be, a package."""
    return (Path(path) / MANIFEST_NAME).is_file()


def labels_tree(targets: TargetSet = RSNA_2023) -> dict[str, Any]:
    """Return what a package says of its answers."""
    return {"targets": described_targets(targets), "columns": list(targets.columns)}


def _targets(path: Path) -> TargetSet:
    labels = _read_json(path / LABELS_NAME)
    wrong = CheckpointError(f"{path}: grades other targets than this version knows; use the version that wrote it")
    try:
        targets = told_targets(labels["targets"])
    except (KeyError, ConfigError) as error:
        raise wrong from error
    if labels != labels_tree(targets):
        raise wrong
    return targets


def read_package(path: Path | str) -> OnnxPackage:
    """Read a package and check every file against its SHA-256.

    Raises:
        CheckpointError: It is no package, incomplete, changed, of another format, or grades other targets.
    """
    path = Path(path)
    if not is_package(path):
        raise CheckpointError(f"{path}: no ONNX package; write one with voco2d export RUN --out FOLDER")
    verify_sums(path)
    manifest = _read_json(path / MANIFEST_NAME)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a package of format {manifest.get('format')}, this version reads {FORMAT}; export it again"
        )
    targets = _targets(path)
    try:
        folds = tuple(PackagedFold(**fold) for fold in manifest["folds"])
        complete = bool(folds) and all(set(targets) <= set(fold.outputs) for fold in folds)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST_NAME}: tells no folds; export the package again") from error
    if not complete:
        raise CheckpointError(f"{path / MANIFEST_NAME}: lacks outputs of its folds; export the package again")
    return OnnxPackage(path, folds, _read_json(path / SETTINGS_NAME), targets)


def write_sums(path: Path) -> None:
    """Write the SHA-256 of every file of a package into the package."""
    lines = [f"{file_sha256(file)}  {file.name}\n" for file in sorted(path.iterdir()) if file.name != SUMS_NAME]
    (path / SUMS_NAME).write_text("".join(lines), encoding="utf-8")


def verify_sums(path: Path) -> None:
    """Compare every file of a package with its SHA-256.

    Raises:
        CheckpointError: One is missing, changed or not listed.
    """
    sums = _read_sums(path / SUMS_NAME)
    unlisted = {MODEL_NAME, MANIFEST_NAME, SETTINGS_NAME, LABELS_NAME} - set(sums)
    unlisted |= {name for name in (DISTANCE_NAME, CALIBRATION_NAME) if (path / name).exists()} - set(sums)
    if unlisted:
        raise CheckpointError(f"{path / SUMS_NAME}: doesn't list {', '.join(sorted(unlisted))}; export it again")
    for name, expected in sums.items():
        if file_sha256(path / name) != expected:
            raise CheckpointError(f"{path / name}: changed since it was exported; export the package again")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        CheckpointError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from error


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: missing or damaged; export the package again") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if any(Path(name).name != name or not name for name in sums):
        raise CheckpointError(f"{path}: names files outside its folder; don't use this package")
    return sums


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: missing or damaged; export the package again") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: missing or damaged; export the package again")
    return tree


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None
