"""Measures how well a pretrained 2D-VoCo method finds crops of patients that it never saw."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from voco2d.config import from_tree
from voco2d.data.crop_dataset import CropDataset
from voco2d.data.pretrain_dataset import DataArgs
from voco2d.errors import CheckpointError
from voco2d.memory import enough_memory
from voco2d.methods.method import CropBatch, StepOutput
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import newest_weights, read_weights
from voco2d.store.volume_store import VolumeStore
from voco2d.training.monitor import effective_rank, feature_std, localised, nearest_shares

_ROUNDS = 8
"""Times each volume is cut, each time elsewhere."""
_VOLUMES = 8
"""Volumes at a time; the projector's batch norm is over them."""


@dataclass(frozen=True)
class Localisation:
    """What was measured on volumes that were not trained on.

    Args:
        hits: (V,) share of each volume's random crops whose most similar base crop is one they overlap most.
        chance: The same of a base crop drawn at random.
        frequent: The same of always naming the base crop that is overlapped most most often.
        effective_rank: Of the student's projected features (`monitor.effective_rank`).
        feature_std: Of the same (`monitor.feature_std`).
    """

    hits: Float[np.ndarray, " V"]
    chance: float
    frequent: float
    effective_rank: float
    feature_std: float

    @property
    def accuracy(self) -> float:
        """The mean over volumes."""
        return float(self.hits.mean())

    def interval(self, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy by `resamples` bootstrap draws of volumes, drawn by `seed`."""
        drawn = np.random.default_rng(seed).integers(0, len(self.hits), size=(resamples, len(self.hits)))
        low, high = np.quantile(self.hits[drawn].mean(-1), (0.025, 0.975))
        return float(low), float(high)


@torch.no_grad()
def measure_localisation(
    run: Path, store: VolumeStore, patients: Collection[str], device: str = "cpu", seed: int = 0, chunk: int = 0
) -> Localisation:
    """Measure a run's newest weights on some patients' volumes.

    Whatever the run was trained with, crops are drawn alike: base and random crops take different slices, and nothing
    is mirrored or changed in intensity.

    Args:
        run: A pretraining run of 2D-VoCo, or its weights.
        store: Prepared volumes.
        patients: Those to measure on; none that was trained on.
        device: Where to compute.
        seed: Of the crops.
        chunk: Crops that are encoded at a time; 0 takes all of some volumes at once. Results stay but for rounding.

    Raises:
        DeviceMemoryError: Memory has run out; the message says which setting lowers it, and to what.
        CheckpointError: The run is of another method, or damaged.
        StoreError: None of the patients is in the store.
    """
    method, window_hu = load_method(run)
    method.eval().to(device)
    others = set(store.index["patient_id"].astype(str)) - {str(patient) for patient in patients}
    args = replace(method.args, depth="separate", flips=False, intensity=0.0, partners="next")
    count = min(_VOLUMES, int((~store.index["patient_id"].astype(str).isin(others)).sum()))
    data = DataArgs(window_hu, max(count, 1), seed, shuffle=False, residency="disk")
    dataset = CropDataset(store, replace(args, loss="v1" if count == 1 else args.loss), data, others)
    steps = max(_ROUNDS * len(dataset) // count, 1)
    hits: dict[int, list[float]] = {}
    ties, nearest, features = [], [], []
    batches = dataset.batches(0, steps, torch.device(device))
    for step in range(steps):
        with enough_memory("while crops were drawn to be found", _fewer_slices(args)):
            batch = next(batches)
        with enough_memory("while crops were found", _less(args, chunk or len(batch.units))):
            output = _compared(method, batch, chunk)
        assert output.similarity is not None
        found = localised(output.similarity, batch.overlap).mean(-1).tolist()
        for volume, share in zip(dataset.volumes(step).tolist(), found, strict=True):
            hits.setdefault(volume, []).append(share)
        most = batch.overlap >= batch.overlap.amax(-1, keepdim=True)
        ties.append(float(most.float().mean()))
        nearest.append(nearest_shares(batch.overlap))
        features.append(output.features.float().cpu())
    found_features = torch.cat(features[: max(64 // max(count, 1), 1)])
    return Localisation(
        hits=np.array([float(np.mean(shares)) for _, shares in sorted(hits.items())]),
        chance=float(np.mean(ties)),
        frequent=float(torch.stack(nearest).mean(0).max()),
        effective_rank=effective_rank(found_features),
        feature_std=feature_std(found_features),
    )


def load_method(run: Path) -> tuple[VoCo, tuple[float, float]]:
    """Build a pretrained 2D-VoCo method with its newest weights, student and teacher.

    Args:
        run: A pretraining run of 2D-VoCo, or its weights.

    Returns:
        The method, and the HU that become 0 and 1 for it.

    Raises:
        CheckpointError: The run is of another method, or damaged.
    """
    weights, metadata = read_weights(newest_weights(run) if run.is_dir() else run)
    settings: Mapping[str, Any] = metadata.get("method") or {}
    if settings.get("name") != "voco":
        raise CheckpointError(f"{run}: of method {settings.get('name')!r}; only 2D-VoCo has base crops to find")
    method = VoCo(build_backbone(str(metadata["backbone"]), in_chans=1), from_tree(VoCoArgs, dict(settings)))
    method.load_weights(weights)
    low, high = metadata["window_hu"]
    return method, (float(low), float(high))


def _compared(method: VoCo, batch: CropBatch, chunk: int) -> StepOutput:
    """Compare the crops of a batch; each is encoded by itself, so that pieces change nothing."""
    pieces = torch.split(batch.units, chunk) if chunk else (batch.units,)
    student, teacher = (torch.cat([encode(piece) for piece in pieces]) for encode in (method.encode, method.teach))
    return method.contrast(student, teacher, batch)


def _less(args: VoCoArgs, encoded: int) -> str:
    return f"set chunk={encoded // 2}" if encoded > 1 else _fewer_slices(args)


def _fewer_slices(args: VoCoArgs) -> str:
    lower = f"method.slices={args.slices // 2}" if args.slices > 1 else "a smaller method.crop"
    return f"set {lower} in a new run"
