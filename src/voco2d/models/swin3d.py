"""The 3D Swin transformer that 3D VoCo encodes volumes with, built from MONAI's layers."""

from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

from voco2d.extras import require

FEATURES: Final = 768
"""Channels of the last stage."""
DIVISOR: Final = 32
"""A crop's sides must be multiples of this: patches of 2, halved four times."""

_WIDTH, _WINDOW, _PATCH = 48, 7, 2
_DEPTHS, _HEADS = (2, 2, 2, 2), (3, 6, 12, 24)


class Swin3D(nn.Module):
    """Swin-B as 3D VoCo uses it: the transformer of SwinUNETR with a width of 48, averaged over its last map.

    SwinUNETR's convolutions beside the transformer are left out, so this is the cheaper reading of its encoder.

    Args:
        checkpointing: Whether the backward pass computes each block once more instead of keeping what it needs.

    Raises:
        UsageError: MONAI is not installed.
    """

    def __init__(self, checkpointing: bool = False) -> None:
        super().__init__()
        # imported here because it takes many seconds and belongs to an extra
        swin = require("monai.networks.nets.swin_unetr", "volume", "3D VoCo").SwinTransformer
        self.transformer: nn.Module = swin(
            in_chans=1,
            embed_dim=_WIDTH,
            window_size=(_WINDOW,) * 3,
            patch_size=(_PATCH,) * 3,
            depths=_DEPTHS,
            num_heads=_HEADS,
            spatial_dims=3,
            use_checkpoint=checkpointing,
        )

    def forward(self, crops: Float[Tensor, "M 1 Z H W"]) -> Float[Tensor, "M F"]:
        """Return the mean over voxels of the last stage's map."""
        features: Tensor = self.transformer(crops)[-1].mean((-3, -2, -1))
        return features
