"""BYOL: a student predicts what its teacher makes of another view of the same slice (arXiv 2006.07733)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.losses.byol import byol_loss
from voco2d.methods.method import Batch, StepOutput
from voco2d.methods.taught_method import TaughtMethod
from voco2d.methods.view_args import BYOLArgs
from voco2d.methods.view_encoder import ViewEncoder, by_view
from voco2d.models.lightly_heads import byol_predictor, byol_projector
from voco2d.models.momentum import MomentumTeacher


class BYOL(TaughtMethod):
    """BYOL with lightly's heads and loss.

    Args:
        backbone: Gives feature maps; the teacher starts as a copy.
        args: Settings.

    Raises:
        UsageError: lightly is not installed.
    """

    student: ViewEncoder

    def __init__(self, backbone: nn.Module, args: BYOLArgs) -> None:
        super().__init__()
        self.student = ViewEncoder(backbone, args.crop, lambda width: byol_projector(width, args.hidden, args.out))
        self.predictor = byol_predictor(args.hidden, args.out)
        self.teacher = MomentumTeacher(self.student, args.momentum, "cosine", buffers=True)

    @staticmethod
    def features(network: Any, units: Float[Tensor, "M 1 c c"]) -> Float[Tensor, "M F"]:
        """Return a network's pooled features of views."""
        pooled: Tensor = network.pooled(units)
        return pooled

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N F"] | None, batch: Batch) -> StepOutput:
        """Compute the loss in both directions; heads see one view of all slices at a time, as in the publication."""
        del batch
        assert teacher is not None
        network: Any = self.teacher.network
        projected = [self.student.project(view) for view in by_view(student)]
        with torch.no_grad():
            targets = [network.project(view) for view in by_view(teacher)]
        first, second = (self.predictor(view) for view in projected)
        loss = byol_loss(first, targets[1]) + byol_loss(second, targets[0])
        return StepOutput({"byol": loss}, torch.cat(projected).detach())

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student and the teacher, each a backbone and a projector, and the predictor."""
        return {**super().networks(), "predictor": self.predictor}
