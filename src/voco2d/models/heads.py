"""Projection heads of self-supervised methods."""

from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["feature", "position"]
End = Literal["norm", "linear"]


class Projector(nn.Module):
    """Three linear layers with batch norm without affine parameters, and ReLU between them (SimSiam, VoCo).

    The statistics are always the batch's.

    Args:
        in_features: Width of the input.
        hidden: Width of the layers and the output.
        norm: Batch norm per `feature` over volumes and crops; or per `position` of a crop over volumes and features,
            which is what BatchNorm1d makes of (B, N, D) and what the paper's code does.
        end: Whether the last layer is normalised too (`norm`) or bare (`linear`).
    """

    def __init__(self, in_features: int, hidden: int, norm: Norm, end: End = "norm") -> None:
        super().__init__()
        self._norm = norm
        self._end = end
        widths = (in_features, hidden, hidden)
        self.layers = nn.ModuleList(nn.Linear(width, hidden, bias=False) for width in widths)
        # without running statistics BatchNorm1d does not look at its number of features
        self.normalise = nn.BatchNorm1d(hidden, affine=False, track_running_stats=False)

    def forward(self, features: Float[Tensor, "B N F"]) -> Float[Tensor, "B N D"]:
        """Project the features of N crops of B volumes."""
        *inner, last = self.layers
        for layer in inner:
            features = self._normalised(layer(features)).relu()
        features = last(features)
        return self._normalised(features) if self._end == "norm" else features

    def _normalised(self, features: Tensor) -> Tensor:
        """Normalise (B, N, D) over the axes that `norm` names."""
        if self._norm == "position":
            positions: Tensor = self.normalise(features)
            return positions
        crops: Tensor = self.normalise(rearrange(features, "b n d -> (b n) d"))
        return rearrange(crops, "(b n) d -> b n d", b=features.shape[0])
