"""A head for classes with an order: one score a volume, and thresholds that can't cross."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_GAP = 1e-3
"""Between two thresholds: closer ones would leave the class between them without any probability."""


class OrdinalHead(nn.Module):
    """Proportional odds: P(class > k) = σ(w·x − θ_k) with θ_0 < θ_1 < …, K − 1 cumulative logits of one score.

    The model is McCullagh's (Regression models for ordinal data, J. R. Stat. Soc. B 42, 1980); CORAL (Cao et al.,
    Pattern Recognition Letters 140, 2020) puts the same one score with K − 1 thresholds behind a network. Thresholds
    keep their order by being sums of positive gaps. What the head returns are logarithms of the classes' probabilities,
    so softmax, cross-entropy and averages treat them as they treat a linear head's logits. It starts with equal
    probabilities at a score of 0.

    Args:
        features: D.
        classes: K, at least 2.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        start = torch.logit(torch.arange(1, classes) / classes)
        self.first = nn.Parameter(start[:1].clone())
        gaps = (start[1:] - start[:-1]) - _LEAST_GAP
        self.gaps = nn.Parameter(gaps + torch.log(-torch.expm1(-gaps)))  # the inverse of softplus

    def thresholds(self) -> Float[Tensor, " _"]:
        """Return θ, rising, in float32."""
        first, gaps = self.first.float(), F.softplus(self.gaps.float()) + _LEAST_GAP
        return torch.cat([first, first + gaps.cumsum(dim=0)])

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Return log p of each class, float32 also under autocast; their exponentials sum to 1."""
        thresholds = self.thresholds()
        cumulative = self.score(features).float() - thresholds  # (B, K − 1), falling
        above, below = F.logsigmoid(cumulative), F.logsigmoid(-cumulative)
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)), and a − b is a gap whatever the score is
        gaps = thresholds[1:] - thresholds[:-1]
        between = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(-gaps))
        return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)
