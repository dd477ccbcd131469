"""The loss of SimMIM: how far the hidden pixels are from what was predicted for them (arXiv 2111.09886)."""

from jaxtyping import Float
from torch import Tensor
from torch.amp import autocast


def hidden_pixel_loss(
    predicted: Float[Tensor, "M c c"], images: Float[Tensor, "M c c"], hidden: Float[Tensor, "M c c"]
) -> Float[Tensor, " M"]:
    """Return each image's mean absolute error over its hidden pixels, in float32 also under autocast.

    Args:
        predicted: What was made of the images' visible pixels.
        images: Intensities 0…1.
        hidden: 1 where a pixel was hidden, 0 elsewhere; at least one of each image is.
    """
    with autocast(predicted.device.type, enabled=False):
        error = (predicted.float() - images.float()).abs() * hidden
        return error.sum((-1, -2)) / hidden.sum((-1, -2))
