"""What the methods that compare views share: a backbone with a projector, and the two views of each slice."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.models.backbones import feature_map_size


class ViewEncoder(nn.Module):
    """A 2D backbone, the mean over a view's feature map, and a projector.

    Args:
        backbone: Gives a feature map (N, F, h, w) of one-channel images.
        side: Side of a view, pixels.
        build_projector: Gives the projector of features of width F.
    """

    def __init__(self, backbone: nn.Module, side: int, build_projector: Callable[[int], nn.Module]) -> None:
        super().__init__()
        # channels-last takes half of the time of a forward pass on a CPU
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.projector = build_projector(feature_map_size(backbone, 1, side)[0])

    def pooled(self, views: Float[Tensor, "M 1 c c"]) -> Float[Tensor, "M F"]:
        """Return the mean of each view's feature map."""
        maps: Tensor = self.backbone(views.contiguous(memory_format=torch.channels_last))
        return maps.float().mean((2, 3))

    def project(self, pooled: Float[Tensor, "N F"]) -> Float[Tensor, "N D"]:
        """Return what the projector makes of pooled features."""
        projected: Tensor = self.projector(pooled)
        return projected.float()


def by_view(features: Float[Tensor, "N F"]) -> Float[Tensor, "2 n F"]:
    """Part features of units, whose two views of a slice follow one another, into first and second views."""
    return rearrange(features, "(n v) f -> v n f", v=2)
