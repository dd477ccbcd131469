"""The loss of BYOL: a student's prediction of what its teacher makes of another view (arXiv 2006.07733, eq. 2)."""

from jaxtyping import Float
from torch import Tensor
from torch.amp import autocast

from voco2d.extras import require


def byol_loss(predicted: Float[Tensor, "N D"], target: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of unit-length features, 2 − 2 cosine, by lightly, in float32.

    Args:
        predicted: The student's predictions; take the gradient.
        target: The teacher's features of the other view of the same images; a gradient is not stopped here.

    Raises:
        UsageError: lightly is not installed.
    """
    lightly = require("lightly.loss", "ssl", "method.name=byol")
    with autocast(predicted.device.type, enabled=False):
        cosine: Tensor = lightly.NegativeCosineSimilarity()(predicted.float(), target.float())
    return 2 + 2 * cosine
