"""The loss of SimCLR: each view finds its partner among all others (Chen et al., arXiv 2002.05709, eq. 1)."""

from jaxtyping import Float
from torch import Tensor
from torch.amp import autocast

from voco2d.extras import require


def nt_xent_loss(first: Float[Tensor, "N D"], second: Float[Tensor, "N D"], temperature: float) -> Float[Tensor, ""]:
    """Return the normalised, temperature-scaled cross-entropy, by lightly, in float32 also under autocast.

    Args:
        first: Features of one view of each image; the two views of an image are in the same row.
        second: Features of the other view.
        temperature: Divides the cosines, above 0.

    Raises:
        UsageError: lightly is not installed.
    """
    lightly = require("lightly.loss", "ssl", "method.name=simclr")
    with autocast(first.device.type, enabled=False):
        loss: Tensor = lightly.NTXentLoss(temperature=temperature)(first.float(), second.float())
    return loss
