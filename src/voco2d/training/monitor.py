"""Watches a pretraining run from step to step, cheaply enough for every one of them; `alarm` judges what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from voco2d.methods.method import StepOutput

_BINS = 10
_EPSILON = 1e-12


@dataclass
class Monitor:
    """Collects what is watched between two lines of the log; `summary` gives it out and starts anew."""

    _names: tuple[str, ...] = ()
    _terms: list[Tensor] = field(default_factory=list)
    _grad_norms: list[Tensor] = field(default_factory=list)
    _hits: list[Tensor] = field(default_factory=list)
    _similarity: list[Tensor] = field(default_factory=list)
    _nearest: list[Tensor] = field(default_factory=list)
    _features: Tensor | None = None

    def watch(self, output: StepOutput, grad_norm: Tensor) -> None:
        """Take in one step; nothing is copied from the device, so that it need not be waited for."""
        self._names = tuple(output.terms)
        self._terms.append(torch.stack([term.detach().float() for term in output.terms.values()]))
        self._grad_norms.append(grad_norm.detach().float())
        self._features = output.features.detach()
        if output.similarity is not None and output.overlap is not None:
            similarity = output.similarity.detach().float()
            self._similarity.append(similarity.flatten())
            self._hits.append(localised(similarity, output.overlap).mean())
            self._nearest.append(nearest_shares(output.overlap))

    def summary(self, step: int) -> dict[str, int | float | Sequence[float]]:
        """Return the means since the last summary and start anew.

        Args:
            step: Steps done; the record begins with it.

        Returns:
            step; loss and its terms; grad_norm, over the steps where it is finite, and nonfinite_grads, the share of
            the others; effective_rank and feature_std of the last step's features. Of a method with base crops also
            localisation_accuracy; localisation_chance, what always naming the most frequent base crop would score;
            similarity_mean, similarity_std, and similarity_histogram, shares in ten equal bins of −1…1.
        """
        assert self._features is not None, "summary before watch"
        terms = torch.stack(self._terms).mean(0).cpu()
        norms = torch.stack(self._grad_norms).cpu()
        finite = norms[norms.isfinite()]
        features = self._features.float().cpu()
        record: dict[str, int | float | Sequence[float]] = {
            "step": step,
            "loss": float(terms.sum()),
            **dict(zip(self._names, terms.tolist(), strict=True)),
            "grad_norm": float(finite.mean()),  # NaN where none is finite
            "nonfinite_grads": 1.0 - len(finite) / len(norms),
            "effective_rank": effective_rank(features),
            "feature_std": feature_std(features),
        }
        if self._similarity:
            record |= self._compared()
        for collected in (self._terms, self._grad_norms, self._hits, self._similarity, self._nearest):
            collected.clear()
        return record

    def _compared(self) -> dict[str, int | float | Sequence[float]]:
        similarity = torch.cat(self._similarity).cpu()
        counts = torch.histc(similarity.clamp(-1.0, 1.0), _BINS, -1.0, 1.0)
        return {
            "localisation_accuracy": float(torch.stack(self._hits).mean()),
            "localisation_chance": float(torch.stack(self._nearest).mean(0).max()),
            "similarity_mean": float(similarity.mean()),
            "similarity_std": float(similarity.std(correction=0)),
            "similarity_histogram": (counts / len(similarity)).tolist(),
        }


def localised(similarity: Float[Tensor, "B R K"], overlap: Float[Tensor, "B R K"]) -> Float[Tensor, "B R"]:
    """Tell, 1 or 0, whether a random crop's most similar base crop is the one it overlaps most."""
    best = similarity.argmax(-1, keepdim=True)
    return (overlap.gather(-1, best) >= overlap.amax(-1, keepdim=True)).squeeze(-1).float()


def nearest_shares(overlap: Float[Tensor, "B R K"]) -> Float[Tensor, " K"]:
    """Return how often each base crop is the most overlapping one.

    They differ: of a 3 × 3 grid the middle one is so for every fourth random crop, a corner for every sixteenth.
    """
    return (overlap >= overlap.amax(-1, keepdim=True)).float().mean((0, 1))


def effective_rank(features: Float[Tensor, "N D"]) -> float:
    """Return exp(entropy) of the normalised singular values of the centred features (Roy and Vetterli, 2007).

    1 where all lie on a line, at most N − 1; 0 where all are equal; NaN where one is not finite.
    """
    if not bool(features.isfinite().all()):
        return float("nan")
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
