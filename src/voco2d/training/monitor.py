"""Watches a pretraining run for progress and collapse, cheaply enough for every step."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from voco2d.methods.method import StepOutput

_log = logging.getLogger(__name__)
_BINS = 10
_EPSILON = 1e-12

FLAT_FEATURES = 0.05
"""Below this deviation of unit-length features (1 when they fill all directions) all crops look alike."""
FEW_DIRECTIONS = 1.5
"""Below this effective rank the features lie on a line."""


@dataclass
class Monitor:
    """Collects what is watched between two lines of the log; `summary` gives it out and starts anew."""

    _terms: list[Tensor] = field(default_factory=list)
    _hits: list[Tensor] = field(default_factory=list)
    _similarity: list[Tensor] = field(default_factory=list)
    _grad_norms: list[Tensor] = field(default_factory=list)
    _features: Tensor | None = None
    _warned: set[str] = field(default_factory=set)

    def watch(self, output: StepOutput, grad_norm: Tensor) -> None:
        """Take in one step; nothing is copied from the device."""
        self._terms.append(torch.stack([term.detach().float() for term in output.terms.values()]))
        self._names = tuple(output.terms)
        self._hits.append(localised(output.similarity, output.overlap).float().mean())
        self._similarity.append(output.similarity)
        self._grad_norms.append(grad_norm.detach().float())
        self._features = output.features

    def summary(self, step: int) -> dict[str, float | Sequence[float]]:
        """Return the means since the last summary, warn where they show a collapse, and start anew.

        Args:
            step: Steps done, for the warning.

        Returns:
            loss and its terms; grad_norm; effective_rank and feature_std of the last step's features;
            localisation_accuracy; similarity_mean; similarity_histogram, shares in ten equal bins of −1…1.
        """
        assert self._features is not None
        terms = torch.stack(self._terms).mean(0)
        similarity = torch.cat([values.flatten() for values in self._similarity]).float().cpu()
        features = self._features.float().cpu()
        record: dict[str, float | Sequence[float]] = {
            "loss": float(terms.sum()),
            **dict(zip(self._names, terms.tolist(), strict=True)),
            "grad_norm": float(torch.stack(self._grad_norms).mean()),
            "effective_rank": effective_rank(features),
            "feature_std": feature_std(features),
            "localisation_accuracy": float(torch.stack(self._hits).mean()),
            "similarity_mean": float(similarity.mean()),
            "similarity_histogram": (torch.histc(similarity, _BINS, -1.0, 1.0) / len(similarity)).tolist(),
        }
        self._warn(step, record)
        for collected in (self._terms, self._hits, self._similarity, self._grad_norms):
            collected.clear()
        return record

    def _warn(self, step: int, record: Mapping[str, float | Sequence[float]]) -> None:
        """Name a symptom of collapse once, and again only after it has gone."""
        symptoms = {
            "feature_std": (FLAT_FEATURES, "all crops get nearly the same feature"),
            "effective_rank": (FEW_DIRECTIONS, "the features lie on a line"),
        }
        for name, (limit, symptom) in symptoms.items():
            value = record[name]
            if isinstance(value, float) and value >= limit:
                self._warned.discard(name)
            elif name not in self._warned:
                self._warned.add(name)
                _log.warning(
                    "step %d: collapse? %s (%s %s, healthy above %s); try a lower optim.lr or a larger batch_size",
                    step, symptom, name, f"{value:.3g}", limit,
                )  # fmt: skip


def localised(similarity: Float[Tensor, "B R K"], overlap: Float[Tensor, "B R K"]) -> Float[Tensor, "B R"]:
    """Tell, 1 or 0, whether a random crop's most similar base crop is the one it overlaps most; chance is 1 / K."""
    best = similarity.argmax(-1, keepdim=True)
    return (overlap.gather(-1, best) >= overlap.amax(-1, keepdim=True)).squeeze(-1).float()


def effective_rank(features: Float[Tensor, "N D"]) -> float:
    """Return exp(entropy) of the normalised singular values of the centred features (Roy and Vetterli, 2007).

    1 where all lie on a line, at most N − 1; 0 where all are equal.
    """
    values = torch.linalg.svdvals(features - features.mean(0))
    total = values.sum()
    if total <= _EPSILON:
        return 0.0
    shares = values / total
    return float((-(shares * (shares + _EPSILON).log()).sum()).exp())


def feature_std(features: Float[Tensor, "N D"]) -> float:
    """Return the deviation over crops of unit-length features times √D: near 1 when healthy, 0 when collapsed."""
    unit = torch.nn.functional.normalize(features, dim=-1)
    return float(unit.std(0).mean() * features.shape[1] ** 0.5)
