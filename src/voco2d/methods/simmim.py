"""SimMIM: the pixels of hidden squares are predicted from the rest of the slice (arXiv 2111.09886)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError
from voco2d.losses.masked import hidden_pixel_loss
from voco2d.methods.method import Batch, Method, StepOutput
from voco2d.methods.view_args import SimMIMArgs
from voco2d.models.backbones import feature_map_size

_TOKEN_STD = 0.02


class MaskedEncoder(nn.Module):
    """A backbone that sees a learned token in the place of hidden squares, and a linear decoder to pixels.

    Args:
        backbone: Gives a feature map (N, F, h, w) of one-channel images.
        args: Settings.

    Raises:
        ConfigError: The feature map doesn't divide a view into equal squares.
    """

    def __init__(self, backbone: nn.Module, args: SimMIMArgs) -> None:
        super().__init__()
        features, height, width = feature_map_size(backbone, 1, args.crop)
        if height != width or args.crop % height:
            raise ConfigError(
                f"method.crop={args.crop}: a feature map of {height} × {width} doesn't divide it into equal squares"
            )
        self._grid = args.grid
        self._scale = args.crop // height
        # channels-last takes half of the time of a forward pass on a CPU
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.decoder = nn.Conv2d(features, self._scale**2, kernel_size=1)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(args.patch, args.patch), std=_TOKEN_STD))

    def forward(
        self, images: Float[Tensor, "M c c"], hidden: Float[Tensor, "M c c"]
    ) -> tuple[Float[Tensor, "M c c"], Float[Tensor, "M F"]]:
        """Return the predicted pixels and the pooled features of images whose `hidden` pixels are not shown."""
        tokens = self.token.repeat(self._grid, self._grid)
        shown = (images * (1 - hidden) + tokens * hidden).unsqueeze(1)
        maps: Tensor = self.backbone(shown.contiguous(memory_format=torch.channels_last))
        predicted = rearrange(self.decoder(maps), "m (u v) h w -> m (h u) (w v)", u=self._scale)
        return predicted, maps.float().mean((2, 3))


class SimMIM(Method):
    """SimMIM for backbones that give feature maps; a unit's two planes are the view and what of it is hidden.

    Args:
        backbone: Gives feature maps.
        args: Settings.

    Raises:
        ConfigError: The feature map doesn't divide a view into equal squares.
    """

    ENCODERS: ClassVar[tuple[str, ...]] = ("student",)

    def __init__(self, backbone: nn.Module, args: SimMIMArgs) -> None:
        super().__init__()
        self.student = MaskedEncoder(backbone, args)

    def encode(self, units: Float[Tensor, "M 2 c c"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return each unit's loss and then its pooled features: nothing is compared between units."""
        del seeds  # nothing is drawn
        images, hidden = units.unbind(1)
        predicted, pooled = self.student(images, hidden)
        return torch.cat([hidden_pixel_loss(predicted, images, hidden)[:, None], pooled], dim=1)

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N T"] | None, batch: Batch) -> StepOutput:
        """Average the loss over units."""
        del teacher, batch
        return StepOutput({"reconstruction": student[:, 0].mean()}, student[:, 1:].detach())

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student: a backbone, a decoder and the token."""
        return {"student": self.student}
