"""Runs trained networks by torch, on a CPU or a GPU."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32

from voco2d.errors import ConfigError
from voco2d.evaluation.scaler_file import CALIBRATION_NAME
from voco2d.inference.explain.evidence import Evidence
from voco2d.inference.explain.gradients import find_evidence
from voco2d.inference.runtime import FEATURES, Models, Slices
from voco2d.inference.settings import ModelSettings, common_metadata
from voco2d.models.checkpoint import Metadata, newest_weights
from voco2d.models.classifier import CLASS_SHARES, Classifier, load_graded
from voco2d.models.feature_distance import FeatureDistance
from voco2d.models.fold_norms import fold_norms
from voco2d.targets import TargetSet

_PIECE_BYTES: Final = 2**20
_SLICES_AT_ONCE: Final = 8
"""On a CPU, where the maps of all slices together would not stay in its caches: half the time, and the same numbers."""


class TorchRuntime:
    """One fold's classifier; see `Runtime`.

    Args:
        classifier: Ready for evaluation; it is moved to `device`.
        device: Where it runs.
        precision: fp32 or bf16, in which the network's products are computed; its answer is float32 either way.
        name: Name of its weights.
        digest: SHA-256 of the file of its weights.
        feature_distance: Fitted with it, or None.
    """

    def __init__(
        self,
        classifier: Classifier,
        device: torch.device,
        precision: str,
        name: str,
        digest: str,
        feature_distance: FeatureDistance | None,
    ) -> None:
        self.classifier = classifier.to(device).eval()
        self.name = name
        self.sha256 = digest
        self.device = str(device)
        self.feature_distance = feature_distance
        self._device = device
        self._precision = precision

    @torch.inference_mode()
    def logits(self, slices: Slices) -> Mapping[str, Float32[np.ndarray, " _"]]:
        """Grade one volume, see `Runtime.logits`; the same slices give the same bytes on one machine."""
        volume = rearrange(torch.from_numpy(slices), "s c h w -> 1 s c h w").to(self._device)
        with self._autocast(), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            at_once = _SLICES_AT_ONCE if self._device.type == "cpu" else volume.shape[1]
            pieces = torch.split(volume, at_once, dim=1)
            vectors = torch.cat([self.classifier.slice_features(piece) for piece in pieces], dim=1)  # (1, S, D)
            graded = self.classifier.grade_features(vectors)
        answer = {name: graded[name][0].float().cpu().numpy() for name in self.classifier.targets}
        return {**answer, FEATURES: vectors[0].float().mean(dim=0).cpu().numpy()}

    def find_evidence(self, slices: Slices) -> Mapping[str, Evidence]:
        """Look for what the answer rests on, see `voco2d.inference.explain.gradients`; in float32."""
        return find_evidence(self.classifier, slices)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)


def load_models(paths: Sequence[Path], device: str, precision: str) -> Models:
    """Load the folds of one or several runs, see `voco2d.inference.runtime.load_models`."""
    chosen = choose_device(device)
    files = [file for path in paths for file in fold_files(path)]
    loaded = {file: load_graded(file) for file in dict.fromkeys(files)}
    shared = common_metadata({file: metadata for file, (_, metadata, _) in loaded.items()})
    settings = ModelSettings.from_metadata(shared, paths[0])
    if chosen.type == "cpu" and precision == "fp32":
        readout = settings.readout
        for classifier, _, _ in loaded.values():
            fold_norms(classifier.backbone, (classifier.args.in_chans, readout.crop, readout.crop))
    runtimes = [
        TorchRuntime(classifier, chosen, precision, file.name, file_digest(file), distance)
        for file, (classifier, _, distance) in loaded.items()
    ]
    shares = _class_shares([metadata for _, metadata, _ in loaded.values()], settings.targets)
    return Models(runtimes, settings, _stored_calibration(paths), shares)


def fold_files(run: Path) -> list[Path]:
    """List the weights of all folds of a run; a file stands for itself.

    Raises:
        CheckpointError: There are none.
    """
    if not run.is_dir():
        return [run]
    return sorted(run.glob("fold_*.safetensors")) or [newest_weights(run)]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def choose_device(device: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ConfigError: It is unknown or not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if gpus else "cpu")
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"device={device} is not known; choose auto, cpu, cuda or cuda:N")
    if name == "cuda" and int(number or 0) >= gpus:
        raise ConfigError(f"device={device}: torch sees {gpus} GPUs here; choose device=cpu or auto")
    return torch.device(device)


def _class_shares(folds: Sequence[Metadata], targets: TargetSet) -> Mapping[str, float] | None:
    """Average what the folds were trained on; None where one of them doesn't say it, as of earlier versions."""
    told = [metadata.get(CLASS_SHARES) for metadata in folds]
    known = [shares for shares in told if isinstance(shares, dict) and set(shares) >= set(targets.columns)]
    if len(known) < len(told):
        return None
    return {column: sum(float(shares[column]) for shares in known) / len(known) for column in targets.columns}


def _stored_calibration(paths: Sequence[Path]) -> Path | None:
    """Find what was fitted on the out-of-fold predictions of one run; it says nothing about several."""
    if len(paths) != 1:
        return None
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    file = folder / CALIBRATION_NAME
    return file if file.is_file() else None
