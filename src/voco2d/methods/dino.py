"""DINO: a student gives a view the prototypes its teacher gives another view of the slice (arXiv 2104.14294)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.losses.dino import DINOLoss
from voco2d.methods.method import Batch, StepOutput
from voco2d.methods.taught_method import TaughtMethod
from voco2d.methods.view_args import DINOArgs
from voco2d.methods.view_encoder import ViewEncoder, by_view
from voco2d.models.lightly_heads import dino_projector
from voco2d.models.momentum import MomentumTeacher


class DINO(TaughtMethod):
    """DINO with lightly's head and loss, on two views of one size: there are no smaller local views.

    Args:
        backbone: Gives feature maps; the teacher starts as a copy.
        args: Settings.

    Raises:
        UsageError: lightly is not installed.
    """

    student: ViewEncoder

    def __init__(self, backbone: nn.Module, args: DINOArgs) -> None:
        super().__init__()
        self._args = args
        self.student = ViewEncoder(
            backbone, args.crop, lambda width: dino_projector(width, args.hidden, args.bottleneck, args.prototypes)
        )
        self.teacher = MomentumTeacher(self.student, args.momentum, "cosine", buffers=True)
        self.loss = DINOLoss(args.prototypes, args.student_temperature, args.teacher_temperature, args.center_momentum)

    @staticmethod
    def features(network: Any, units: Float[Tensor, "M 1 c c"]) -> Float[Tensor, "M F"]:
        """Return a network's pooled features of views."""
        pooled: Tensor = network.pooled(units)
        return pooled

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N F"] | None, batch: Batch) -> StepOutput:
        """Compute the loss, and move the centre of the teacher's logits."""
        del batch
        assert teacher is not None
        network: Any = self.teacher.network
        logits = self.student.project(student)
        with torch.no_grad():
            targets: Tensor = network.project(teacher)
        # cosines with as many prototypes tell as much as the bottleneck and are cheaper to watch than all
        watched = logits[:, : self._args.bottleneck].detach()
        return StepOutput({"dino": self.loss(by_view(logits), by_view(targets))}, watched)

    def before_step(self, share: float) -> None:
        """Keep the prototypes as they are at the start of the training."""
        if share <= self._args.freeze:
            for parameter in self.student.projector.get_submodule("last_layer").parameters():
                parameter.grad = None

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student and the teacher, each a backbone and a projector, and the loss, which holds the centre."""
        return {**super().networks(), "loss": self.loss}
