"""A probe of a backbone that is being pretrained: how well its frozen features tell injured patients from others."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from voco2d.data.cohort import class_indices, join_labels, make_folds, read_labels
from voco2d.errors import ConfigError, LabelError
from voco2d.preprocessing.readout import ReadoutArgs, check_readout, read_out
from voco2d.store.volume_store import VolumeStore

_log = logging.getLogger(__name__)

_TEMPERATURE = 0.07
"""Sharpness of the neighbours' votes, exp(similarity / temperature) (Wu et al., arXiv 1805.01978)."""


@dataclass(frozen=True)
class ProbeArgs:
    """How the features of a pretraining run are probed.

    Args:
        labels: CSV as RSNA 2023's `train.csv`, of a part of the patients; no probe when None.
        every: Steps between two probes.
        kind: `knn` lets the most similar patients vote, `linear` fits a logistic regression.
        neighbours: How many vote.
        folds: Parts the patients are split into; each is judged from the others.
        patients: At most so many are probed, the first by id.
        slices: S, evenly spaced slices of a volume.
        crop: Side of the square in the middle of each slice, pixels; a smaller slice is taken whole.
        held_out: Whether patients that are left out of pretraining are probed too. A run whose settings or length are
            chosen by a probe of validation patients has seen them.
    """

    labels: str | None = None
    every: int = 1000
    kind: Literal["knn", "linear"] = "knn"
    neighbours: int = 20
    folds: int = 5
    patients: int = 400
    slices: int = 16
    crop: int = 192
    held_out: bool = False

    def __post_init__(self) -> None:
        """Refuse values that can't run."""
        for name, low in (("every", 1), ("neighbours", 1), ("folds", 2), ("patients", 2), ("slices", 1), ("crop", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"probe.{name}={getattr(self, name)}: must be at least {low}")


class Probe:
    """Measures a backbone on the labelled patients of a store; the same weights give the same numbers.

    Args:
        store: Prepared volumes.
        args: Settings, with `labels`.
        window_hu: HU that become 0 and 1.
        exclude_patients: Patients that pretraining leaves out.
        seed: Splits the patients.

    Raises:
        UsageError: There is no such table.
        LabelError: It can't be used, or no patient of it may be probed.
        ConfigError: There are fewer patients than folds.
    """

    def __init__(
        self,
        store: VolumeStore,
        args: ProbeArgs,
        window_hu: tuple[float, float],
        exclude_patients: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        assert args.labels is not None
        self._store, self._args = store, args
        labels = read_labels(Path(args.labels))
        barred = labels["patient_id"].isin([str(patient) for patient in exclude_patients]).to_numpy()
        if barred.all() and not args.held_out:
            raise LabelError(
                f"{args.labels}: pretraining leaves all its patients out; probe others, or set probe.held_out=true"
            )
        cohort = join_labels(store.index, labels if args.held_out else labels[~barred])
        if barred.any():
            way = "are probed, do not choose anything by that" if args.held_out else "are not probed"
            _log.warning("%d labelled patients that pretraining leaves out %s", barred.sum(), way)
        chosen = cohort.labels.head(args.patients)
        self._positions = [
            cohort.series["position"][cohort.series["patient_id"] == patient].tolist()
            for patient in chosen["patient_id"]
        ]
        self._injured = {name: grades > 0 for name, grades in class_indices(chosen).items()}
        self._folds = make_folds(chosen, args.folds, seed).loc[chosen["patient_id"]].to_numpy()
        size = store.preprocess_args.size
        self._readout = ReadoutArgs(min(args.slices, size[0]), min(args.crop, *size[1:]), window_hu)
        check_readout(self._readout, size)

    def is_due(self, step: int) -> bool:
        """Tell whether to probe after `step` steps."""
        return step % self._args.every == 0

    def measure(self, backbone: nn.Module) -> dict[str, float]:
        """Probe a backbone where it is; its modes, its buffers and the sources of chance stay as they are.

        Args:
            backbone: Gives a feature map (N, F, h, w).

        Returns:
            probe_auroc_<target>, the area under the ROC curve of injured against healthy, NaN where one of the two
            never occurs, and probe_auroc, their mean over the other targets.
        """
        features = self._features(backbone)
        scores = {name: self._scores(features, injured) for name, injured in self._injured.items()}
        areas = {f"probe_auroc_{name}": _area(self._injured[name], values) for name, values in scores.items()}
        known = [area for area in areas.values() if not np.isnan(area)]
        return {"probe_auroc": float(np.mean(known)) if known else float("nan"), **areas}

    def _features(self, backbone: nn.Module) -> Float32[np.ndarray, "N F"]:
        """Return a feature of unit length a patient: the mean over series, slices and pixels of the map."""
        device = next(backbone.parameters()).device
        rows = []
        with _evaluating(backbone), torch.no_grad():
            for positions in self._positions:
                volumes = [self._pooled(backbone, position, device) for position in positions]
                rows.append(nn.functional.normalize(torch.stack(volumes).mean(0), dim=0).cpu())
        return torch.stack(rows).numpy()

    def _pooled(self, backbone: nn.Module, position: int, device: torch.device) -> Float[Tensor, " F"]:
        slices = torch.from_numpy(read_out(self._store[position], self._readout)).unsqueeze(1)  # (S, 1, crop, crop)
        maps: Tensor = backbone(slices.to(device))
        return maps.float().mean((0, 2, 3))

    def _scores(
        self, features: Float32[np.ndarray, "N F"], injured: Bool[np.ndarray, " N"]
    ) -> Float64[np.ndarray, " N"]:
        """Judge each patient from those of the other folds."""
        scores = np.zeros(len(injured))
        for fold in np.unique(self._folds):
            held = self._folds == fold
            if self._args.kind == "knn":
                scores[held] = vote(features[held], features[~held], injured[~held], self._args.neighbours)
            elif injured[~held].any() and not injured[~held].all():
                scores[held] = _regress(features[held], features[~held], injured[~held])
        return scores


def vote(
    queries: Float32[np.ndarray, "Q F"],
    known: Float32[np.ndarray, "N F"],
    injured: Bool[np.ndarray, " N"],
    neighbours: int,
) -> Float64[np.ndarray, " Q"]:
    """Return the weight of the injured among each query's most similar known patients, 0…1.

    Args:
        queries: Features of unit length.
        known: Likewise.
        injured: Of the known.
        neighbours: How many vote, with a weight of exp(cosine / 0.07).
    """
    cosine = queries.astype(np.float64) @ known.T.astype(np.float64)
    nearest: Int64[np.ndarray, "Q k"] = np.argsort(-cosine, axis=1, kind="stable")[:, :neighbours]
    weights = np.exp((np.take_along_axis(cosine, nearest, axis=1) - 1.0) / _TEMPERATURE)
    score: Float64[np.ndarray, " Q"] = (weights * injured[nearest]).sum(1) / weights.sum(1)
    return score


def _regress(
    queries: Float32[np.ndarray, "Q F"], known: Float32[np.ndarray, "N F"], injured: Bool[np.ndarray, " N"]
) -> Float64[np.ndarray, " Q"]:
    """Return the logit of a logistic regression on standardised features, both classes weighing the same."""
    center, scale = known.mean(0), known.std(0) + 1e-6
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    model.fit((known - center) / scale, injured)
    logits: Float64[np.ndarray, " Q"] = model.decision_function((queries - center) / scale).astype(np.float64)
    return logits


def _area(injured: Bool[np.ndarray, " N"], scores: Float64[np.ndarray, " N"]) -> float:
    if injured.all() or not injured.any():
        return float("nan")
    return float(roc_auc_score(injured, scores))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and give each module its own mode back."""
    modes: Mapping[nn.Module, bool] = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
