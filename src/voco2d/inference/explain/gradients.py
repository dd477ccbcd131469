"""What one torch network's answer rests on: attributions of slices and class activation maps, by Captum.

All of it starts from the backbone's feature maps, which are computed once; below them no gradient is needed.
"""

from typing import Any, Final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.extras import require
from voco2d.inference.explain.evidence import (
    ATTENTION,
    INTEGRATED_GRADIENTS,
    MAX_POSITIONS,
    OCCLUSION,
    WINDOW,
    Evidence,
)
from voco2d.inference.runtime import Slices
from voco2d.models.aggregators import Aggregator, AttentionAggregator, MaxAggregator
from voco2d.models.classifier import Classifier

STEPS: Final = 32
"""Points of the path of integrated gradients, Gauss-Legendre."""
_AT_ONCE: Final = 16


class InjuryScore(nn.Module):
    """A network's log-odds of an injury of any grade, see `voco2d.inference.explain.evidence.log_odds`.

    Args:
        classifier: In evaluation mode.
        target: Name of the target.
    """

    def __init__(self, classifier: Classifier, target: str) -> None:
        super().__init__()
        self.classifier = classifier
        self.target = target
        self.maps = nn.Identity()

    def forward(self, vectors: Float[Tensor, "B S D"]) -> Float[Tensor, " B"]:
        """Score volumes by the vectors of their slices."""
        return _log_odds(self.classifier.grade_features(vectors)[self.target])

    def of_maps(self, maps: Float[Tensor, "S F h w"]) -> Float[Tensor, "1"]:
        """Score one volume by the backbone's maps of its slices."""
        vectors = self.classifier.pooling(self.maps(maps))
        return self.forward(rearrange(vectors, "s d -> 1 s d"))

    def of_reduced(self, features: Float[Tensor, "B out"]) -> Float[Tensor, " B"]:
        """Score volumes by what the aggregator reduced them to."""
        return _log_odds(self.classifier.head(self.target)(features))


def find_evidence(classifier: Classifier, slices: Slices) -> dict[str, Evidence]:
    """Look for what a network's answer rests on, target by target.

    The volume is taken as it is, without mirror images, and in float32. Where something must be hidden or compared
    with, the mean over the volume's own slices takes its place.

    Args:
        classifier: In evaluation mode.
        slices: What it saw.

    Raises:
        UsageError: Captum is not installed.
    """
    captum = require("captum.attr", "explain", "an explanation")
    device = next(classifier.parameters()).device
    # cuDNN gives no gradient of a recurrent layer that is being evaluated
    with torch.backends.cudnn.flags(enabled=device.type != "cuda", deterministic=True, benchmark=False):
        with torch.no_grad():
            images = torch.from_numpy(slices).to(device, memory_format=torch.channels_last)
            maps: Tensor = classifier.backbone(images)  # (S, F, h, w)
            vectors: Tensor = rearrange(classifier.pooling(maps), "s d -> 1 s d")
        return {
            name: _target_evidence(captum, InjuryScore(classifier, name).eval(), maps, vectors)
            for name in classifier.targets
        }


def _target_evidence(captum: Any, score: InjuryScore, maps: Tensor, vectors: Tensor) -> Evidence:
    baseline = vectors.mean(dim=1, keepdim=True).expand_as(vectors)
    given = vectors.detach().clone().requires_grad_()
    paths = captum.IntegratedGradients(score).attribute(given, baseline, n_steps=STEPS, method="gausslegendre")
    curves = {
        OCCLUSION: _occlusion(captum, score, vectors, baseline),
        INTEGRATED_GRADIENTS: paths.sum(dim=2)[0],
        **_picked(score, vectors),
    }
    seen = maps.detach().clone().requires_grad_()
    heat = captum.LayerGradCam(score.of_maps, score.maps).attribute(seen, relu_attributions=True)[:, 0]
    return Evidence(
        {name: curve.detach().cpu().double().numpy() for name, curve in curves.items()},
        heat.detach().float().cpu().numpy(),
    )


@torch.no_grad()
def _occlusion(captum: Any, score: InjuryScore, vectors: Tensor, baseline: Tensor) -> Float[Tensor, " S"]:
    """Return by how much the score falls while a slice is hidden, the mean over the windows that it lies in."""
    _, count, width = vectors.shape
    shown: Tensor = captum.Occlusion(score).attribute(
        vectors,
        sliding_window_shapes=(min(WINDOW, count), width),
        strides=(1, width),
        baselines=baseline,
        perturbations_per_eval=_AT_ONCE,
    )
    return shown[0, :, 0]


def _picked(score: InjuryScore, vectors: Tensor) -> dict[str, Float[Tensor, " S"]]:
    """Return which slices the aggregator picks, where it picks or weighs any."""
    aggregator = score.classifier.aggregator
    with torch.no_grad():
        states = aggregator.states(vectors)  # (1, S, out)
        if isinstance(aggregator, AttentionAggregator):
            return {ATTENTION: aggregator.weights(states)[0, :, 0]}
    return {MAX_POSITIONS: _max_positions(score, states)} if takes_maximum(aggregator) else {}


def takes_maximum(aggregator: Aggregator) -> bool:
    """Tell whether an aggregator reduces its slices to their maximum."""
    return isinstance(aggregator, MaxAggregator) and type(aggregator).reduce is MaxAggregator.reduce


def _max_positions(score: InjuryScore, states: Float[Tensor, "1 S out"]) -> Float[Tensor, " S"]:
    """Give each feature's rise above its mean over slices, times the score's slope, to the slice of its maximum."""
    highest, places = states[0].max(dim=0)
    reduced = highest[None].detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(score.of_reduced(reduced).sum(), reduced)
    gains = slope[0] * (highest - states[0].mean(dim=0))
    return torch.zeros(states.shape[1], device=states.device).index_add(0, places, gains)


def _log_odds(logits: Float[Tensor, "B classes"]) -> Float[Tensor, " B"]:
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0]
