"""Frozen features of whole slices, and a linear probe of organ presence on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from presence import WINDOW_HU, LabelledSlices
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.spatial import evenly_spaced
from voco2d.store.volume_store import VolumeStore

C = 1.0
"""Inverse strength of the penalty, scikit-learn's default."""
_SLICES = 8


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one organ in the tested slices of a patient.

    Args:
        reading: `left_out` or `mixed`.
        organ: Which.
        slices: Numbers of the tested slices.
        score: (slices,) predicted probability that the slice shows it.
    """

    reading: str
    organ: str
    slices: np.ndarray
    score: Float[np.ndarray, " n"]

    def rows(self, patient: LabelledSlices) -> Iterator[dict[str, Any]]:
        """Yield a row a tested slice for the table that `scores` takes; patient, start and seed are still missing."""
        for z, score in zip(self.slices.tolist(), self.score.tolist(), strict=True):
            yield {
                "reading": self.reading,
                "organ": self.organ,
                "slice": z,
                "block": int(patient.block[z]),
                "present": int(patient.present[self.organ][z]),
                "score": score,
            }


@torch.no_grad()
def settle_norms(backbone: nn.Module, store: VolumeStore, never_seen: tuple[str, ...]) -> None:
    """Set the batch norms' statistics from whole slices of the pretraining scans, alike for all starts."""
    patients = store.index["patient_id"].astype(str)
    kept = np.flatnonzero(~patients.isin(never_seen))
    depth = store.preprocess_args.size[0]
    hu = np.concatenate([np.array(store[int(volume)][evenly_spaced(depth, _SLICES)]) for volume in kept])
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    backbone(_images(window_hu(hu, *WINDOW_HU)))
    backbone.eval()


@torch.no_grad()
def features(backbone: nn.Module, patient: LabelledSlices) -> Float32[np.ndarray, "Z D"]:
    """Return the pooled features of a patient's slices."""
    found: Float32[np.ndarray, "Z D"] = backbone(_images(patient.images)).numpy()
    return found


def _images(slices: Float32[np.ndarray, "Z H W"]) -> Float[Tensor, "Z 1 H W"]:
    return torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]


def predict(
    tested: str, patients: Mapping[str, LabelledSlices], found: Mapping[str, Float32[np.ndarray, "Z D"]]
) -> Iterator[Prediction]:
    """Train on the other patients, or on every other block of all, and predict the tested patient's slices.

    Organs that all or none of the slices show, of those trained on or of those tested, are left out.
    """
    train = {name: np.full(len(one.block), name != tested) for name, one in patients.items()}
    yield from _predict("left_out", tested, patients, found, train, ~train[tested])
    train = {name: one.block % 2 == 0 for name, one in patients.items()}  # the first, third … block
    yield from _predict("mixed", tested, patients, found, train, ~train[tested])


def _predict(
    reading: str, tested: str, patients: Mapping[str, LabelledSlices],
    found: Mapping[str, Float32[np.ndarray, "Z D"]], train: Mapping[str, Bool[np.ndarray, " Z"]],
    test: Bool[np.ndarray, " Z"],
) -> Iterator[Prediction]:  # fmt: skip
    x = np.concatenate([found[name][train[name]] for name in patients])
    for organ, truth in patients[tested].present.items():
        y = np.concatenate([patients[name].present[organ][train[name]] for name in patients])
        if len(np.unique(y)) < 2 or len(np.unique(truth[test])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000)).fit(x, y)
        yield Prediction(reading, organ, np.flatnonzero(test), model.predict_proba(found[tested][test])[:, 1])
