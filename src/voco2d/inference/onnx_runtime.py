"""Runs the networks of a package of `voco2d export` by ONNX Runtime; knows no torch."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file

from voco2d.errors import CheckpointError, ConfigError
from voco2d.extras import require
from voco2d.inference.onnx_package import INPUT_NAME, OnnxPackage, PackagedFold, read_package
from voco2d.inference.runtime import Models, Slices
from voco2d.inference.settings import ModelSettings, common_metadata
from voco2d.models.feature_distance import FeatureDistance
from voco2d.models.flips import FLIP_AXES
from voco2d.target_block import described_targets

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_VIEWS: Final = 1 + len(FLIP_AXES)
"""Of a volume, that may be graded before the next fold is asked: the volume and its mirror images."""
_ERRORS_ONLY: Final = 3
"""ONNX Runtime's level of messages; below it come remarks on its own optimisations."""


class SharedSession:
    """A package's model, which answers for all its folds at once; remembers what it said of the last few volumes.

    ONNX Runtime computes the whole graph whichever outputs are asked for, and the folds are asked one after another.

    Args:
        session: As `open_session` gives it.
        names: Outputs that are wanted.
    """

    def __init__(self, session: Any, names: Sequence[str]) -> None:
        self._session = session
        self._names = list(names)
        self._said: OrderedDict[bytes, dict[str, Any]] = OrderedDict()

    def __call__(self, slices: Slices) -> Mapping[str, Float32[np.ndarray, " _"]]:
        """Return output name → its row, of one volume."""
        volume = np.ascontiguousarray(slices)
        key = sha256(repr(volume.shape).encode() + volume.tobytes()).digest()
        if key not in self._said:
            values = self._session.run(self._names, {INPUT_NAME: volume[None]})
            self._said[key] = {name: value[0] for name, value in zip(self._names, values, strict=True)}
            if len(self._said) > _VIEWS:
                self._said.popitem(last=False)
        return self._said[key]


class OnnxRuntime:
    """One fold of a package; see `voco2d.inference.runtime.Runtime`.

    Args:
        session: Of the package; its folds share it.
        fold: Which of them.
        device: Where the session runs.
        feature_distance: Fitted with the fold, or None.
    """

    def __init__(
        self, session: SharedSession, fold: PackagedFold, device: str, feature_distance: FeatureDistance | None = None
    ) -> None:
        self.name = fold.name
        self.sha256 = fold.sha256
        self.device = device
        self.feature_distance = feature_distance
        self._session = session
        self._outputs = dict(fold.outputs)

    def logits(self, slices: Slices) -> Mapping[str, Float32[np.ndarray, " _"]]:
        """Grade one volume, see `Runtime.logits`; with one number of threads, the same slices give the same bytes."""
        said = self._session(slices)
        return {name: said[output].copy() for name, output in self._outputs.items()}


def load_models(paths: Sequence[Path], device: str, precision: str) -> Models:
    """Load the folds of one or several packages, see `voco2d.inference.runtime.load_models`."""
    if precision != "fp32":
        raise ConfigError(f"precision={precision}: an ONNX package computes in fp32; leave it out")
    packages = [read_package(path) for path in dict.fromkeys(paths)]
    shared = common_metadata(
        {package.model: {**package.settings, "targets": described_targets(package.targets)} for package in packages}
    )
    runtimes = [runtime for package in packages for runtime in _runtimes(package, device)]
    calibration = packages[0].calibration if len(packages) == 1 else None
    return Models(runtimes, ModelSettings.from_metadata(shared, paths[0]), calibration)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime and have it keep to itself what it would tell its makers of this machine and of errors.

    Raises:
        UsageError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    return require("onnxruntime", "onnx", "running an ONNX package")


def open_session(model: Path, device: str = "cpu") -> Any:
    """Load an ONNX file.

    Args:
        model: The file.
        device: auto (a GPU where ONNX Runtime has one), cpu, cuda or cuda:N.

    Raises:
        UsageError: ONNX Runtime is not installed.
        ConfigError: The device is unknown or not there.
        CheckpointError: The file is damaged.
    """
    onnxruntime = import_onnxruntime()
    providers = _providers(device, onnxruntime.get_available_providers())
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(str(model), settings, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise CheckpointError(f"{model}: can't be loaded ({type(error).__name__}); export the package again") from error


def _runtimes(package: OnnxPackage, device: str) -> list[OnnxRuntime]:
    session = open_session(package.model, device)
    place = "cuda" if session.get_providers()[0] == _CUDA else "cpu"
    distances = _distances(package)
    shared = SharedSession(session, [name for fold in package.folds for name in fold.outputs.values()])
    return [OnnxRuntime(shared, fold, place, distances[index]) for index, fold in enumerate(package.folds)]


def _distances(package: OnnxPackage) -> list[FeatureDistance | None]:
    if package.feature_distance is None:
        return [None] * len(package.folds)
    try:
        arrays = load_file(package.feature_distance)
        return [FeatureDistance.from_arrays(_of_fold(arrays, index)) for index in range(len(package.folds))]
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{package.feature_distance}: damaged; export the package again") from error


def _of_fold(arrays: Mapping[str, Any], index: int) -> dict[str, Any]:
    prefix = f"fold_{index}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    if device == "auto":
        return [name for name in (_CUDA, _CPU) if name in available]
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"device={device} is not known; choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return [_CPU]
    if _CUDA not in available:
        raise ConfigError(f"device={device}: ONNX Runtime has no GPU here; install onnxruntime-gpu, or choose cpu")
    return [(_CUDA, {"device_id": int(number or 0)}), _CPU]
