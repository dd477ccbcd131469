"""What runs one trained network: torch, or another engine beside it; this module imports none of them.

An engine is a module of this folder with a function `load_models(paths, device, precision)` that gives `Models`, and
one line of `RUNTIMES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from voco2d.errors import CheckpointError, ConfigError, MissingCheckpointError, UsageError
from voco2d.inference.onnx_package import is_package
from voco2d.inference.settings import ModelSettings
from voco2d.io.presence import why_absent
from voco2d.models.feature_distance import FeatureDistance

FEATURES: Final = "features"
"""Beside the targets' logits, the name of what `FeatureDistance` takes: the mean over slices of their vectors, (D,)."""

PRECISIONS: Final = ("fp32", "bf16")

Slices: TypeAlias = Float32[np.ndarray, "S C H W"]


@runtime_checkable
class Runtime(Protocol):
    """One trained network, ready to answer; a fold of an ensemble."""

    @property
    def name(self) -> str:
        """Name of its weights, without a folder."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file that holds its weights, hexadecimal."""

    @property
    def device(self) -> str:
        """Where it runs, as torch writes it."""

    @property
    def feature_distance(self) -> FeatureDistance | None:
        """What tells how far from its training data a volume lies; None where nothing was fitted."""

    def logits(self, slices: Slices) -> Mapping[str, Float32[np.ndarray, " _"]]:
        """Grade one volume.

        Args:
            slices: (S, C, H, W) windowed slices from superior to inferior, 0…1, as `read_channels` gives them.

        Returns:
            Target name → logits (classes,); and, where the engine gives them, `FEATURES` → (D,).
        """


@dataclass(frozen=True)
class Models:
    """The networks of an ensemble, which were all trained on volumes of the same settings.

    Args:
        runtimes: One a fold, in the order they were named.
        settings: How a volume becomes what they see.
        calibration: File of the scalers stored with the run, or None.
        class_shares: Column → its share among the patients they were trained on, averaged; None where it is unknown.
    """

    runtimes: Sequence[Runtime]
    settings: ModelSettings
    calibration: Path | None = None
    class_shares: Mapping[str, float] | None = None


LoadModels: TypeAlias = Callable[[Sequence[Path], str, str], Models]

RUNTIMES: Mapping[str, str] = MappingProxyType(
    {"torch": "voco2d.inference.torch_runtime", "onnx": "voco2d.inference.onnx_runtime"}
)
"""Engine → its module, imported on first use."""


def load_models(paths: Sequence[Path], device: str, precision: str, runtime: str | None = None) -> Models:
    """Load the networks of one or several runs.

    Args:
        paths: Run folders of `voco2d finetune` or weights of single folds; or packages of `voco2d export`.
        device: auto, cpu, cuda or cuda:N.
        precision: One of `PRECISIONS`.
        runtime: One of `RUNTIMES`; None takes onnx for packages and torch for anything else.

    Raises:
        ConfigError: An option is unknown, or the device is not there.
        CheckpointError: Weights are missing, damaged, no classifier's, trained with different settings, or made for
            another engine.
        UsageError: The engine is not installed, or there is nothing at a path, which is told before it is imported.
    """
    packages = [path for path in paths if is_package(path)]
    if runtime is None:
        runtime = "onnx" if packages else "torch"
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime={runtime} is not known; choose {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is not known; choose {', '.join(PRECISIONS)}")
    for path in paths:
        if problem := why_absent(path):
            raise MissingCheckpointError(f"{path}: {problem}; name a run of voco2d finetune, weights or a package")
    if runtime == "torch" and packages:
        raise CheckpointError(f"{packages[0]}: an ONNX package holds nothing for torch; leave the runtime to it")
    try:
        load: LoadModels = import_module(RUNTIMES[runtime]).load_models
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{paths[0]}: needs {error.name}, which is not installed; where it is, voco2d export RUN --out FOLDER "
            "makes a package of the run that does without torch"
        ) from error
    return load(paths, device, precision)
