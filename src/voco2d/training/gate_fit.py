"""What a finished fold stores with its weights so that prediction can tell unusual scans: its feature distance."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from lightning_fabric import Fabric

from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.models.checkpoint import read_weights, save_weights
from voco2d.models.classifier import Classifier, load_classifier
from voco2d.models.feature_distance import PREFIX, fit_feature_distance
from voco2d.training.fold_plan import FoldPlan

_log = logging.getLogger(__name__)

MOST_VOLUMES = 512
"""Of training and of held-out volumes; more would cost an epoch and change little."""


def add_feature_distance(path: Path, plan: FoldPlan, fabric: Fabric, dataset: ClassifyDataset) -> None:
    """Fit a fold's feature distance on its training patients, its limit on the held-out ones, and save both with it.

    With too few volumes, see `fit_feature_distance`, the weights stay as they are.

    Args:
        path: The fold's weights; they are written anew.
        plan: Its patients.
        fabric: Gives the device; features are computed in fp32, as prediction does by default.
        dataset: The volumes, unaugmented.
    """
    model, _ = load_classifier(path)
    model.to(fabric.device)
    batch_size = plan.args.batch_size
    fitted = None
    if len(plan.train) and len(plan.held_out):
        train, held_out = (_features(model, dataset, _spread(rows), batch_size) for rows in (plan.train, plan.held_out))
        fitted = fit_feature_distance(train, held_out)
    if fitted is None:
        _log.info("fold %d: too few volumes to tell unusual scans by; the gate stays open", plan.number)
        return
    state, metadata = read_weights(path)
    kept: Mapping[str, torch.Tensor] = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
    arrays = {name: torch.from_numpy(array) for name, array in fitted.arrays().items()}
    save_weights(path, {**kept, **arrays}, metadata)


@torch.no_grad()
def _features(
    model: Classifier, dataset: ClassifyDataset, rows: Int64[np.ndarray, " n"], batch_size: int
) -> Float32[np.ndarray, "n D"]:
    """Return the mean over slices of their vectors, for each of `rows`, of which there is one at least."""
    device = next(model.parameters()).device
    found = [
        model.slice_features(dataset.inputs(batch, device)[0]).float().mean(dim=1).cpu()
        for batch in dataset.batches(rows, batch_size)
    ]
    return np.asarray(torch.cat(found).numpy())


def _spread(rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Take evenly spread rows where there are more than are needed."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_VOLUMES)).round().astype(np.int64))
    return rows[chosen]
