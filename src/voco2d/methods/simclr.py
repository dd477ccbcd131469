"""SimCLR: two views of a slice are nearer to each other than to those of all other slices (arXiv 2002.05709)."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from voco2d.losses.nt_xent import nt_xent_loss
from voco2d.methods.method import Batch, Method, StepOutput
from voco2d.methods.view_args import SimCLRArgs
from voco2d.methods.view_encoder import ViewEncoder, by_view
from voco2d.models.lightly_heads import simclr_projector


class SimCLR(Method):
    """SimCLR with lightly's projector and loss; the negatives are all other views of the whole batch.

    Args:
        backbone: Gives feature maps.
        args: Settings.

    Raises:
        UsageError: lightly is not installed.
    """

    def __init__(self, backbone: nn.Module, args: SimCLRArgs) -> None:
        super().__init__()
        self._temperature = args.temperature
        self.student = ViewEncoder(backbone, args.crop, lambda width: simclr_projector(width, args.hidden, args.out))

    def encode(self, units: Float[Tensor, "M 1 c c"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return the pooled features of views."""
        del seeds  # nothing is drawn
        return self.student.pooled(units)

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N T"] | None, batch: Batch) -> StepOutput:
        """Compute the loss of all views."""
        del teacher, batch
        projected = self.student.project(student)
        first, second = by_view(projected)
        return StepOutput({"nt_xent": nt_xent_loss(first, second, self._temperature)}, projected.detach())

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student, a backbone and a projector."""
        return {"student": self.student}
