"""Heads of self-supervised methods from lightly; their batch norm always works with the batch's own statistics."""

import warnings
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from voco2d.extras import require


def simclr_projector(features: int, hidden: int, out: int) -> nn.Module:
    """Build SimCLR's projector: two linear layers, each with batch norm (arXiv 2002.05709).

    Raises:
        UsageError: lightly is not installed.
    """
    return _without_statistics(_heads("simclr").SimCLRProjectionHead(features, hidden, out))


def byol_projector(features: int, hidden: int, out: int) -> nn.Module:
    """Build BYOL's projector: two linear layers with batch norm between them (arXiv 2006.07733).

    Raises:
        UsageError: lightly is not installed.
    """
    return _without_statistics(_heads("byol").BYOLProjectionHead(features, hidden, out))


def byol_predictor(hidden: int, out: int) -> nn.Module:
    """Build BYOL's predictor, which is like its projector and turns features of width `out` into such.

    Raises:
        UsageError: lightly is not installed.
    """
    return _without_statistics(_heads("byol").BYOLPredictionHead(out, hidden, out))


def dino_projector(features: int, hidden: int, bottleneck: int, prototypes: int) -> nn.Module:
    """Build DINO's projector: three linear layers, unit length, and prototypes of unit length (arXiv 2104.14294).

    Its child `last_layer` holds the prototypes.

    Raises:
        UsageError: lightly is not installed.
    """
    heads = _heads("dino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # lightly still uses the old weight norm
        head: Any = heads.DINOProjectionHead(features, hidden, bottleneck, prototypes)
    # the old one can't be copied for a teacher
    nn.utils.remove_weight_norm(head.last_layer)
    nn.utils.parametrizations.weight_norm(head.last_layer)
    norm = head.last_layer.parametrizations.weight.original0
    norm.data.fill_(1)
    norm.requires_grad_(False)
    return _without_statistics(head)


def _heads(method: str) -> Any:
    return require("lightly.models.modules.heads", "ssl", f"method.name={method}")


def _without_statistics(head: nn.Module) -> nn.Module:
    """Drop the running statistics: in training they are never used, and on several processes all see all features."""
    for module in head.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return head
