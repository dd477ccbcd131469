"""The loss of DINO: the student's prototypes of one view against the teacher's of another (arXiv 2104.14294)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.amp import autocast

from voco2d.extras import require


class DINOLoss(nn.Module):
    """Cross-entropy over pairs of different views, by lightly, in float32 also under autocast.

    It holds the centre of the teacher's logits, a buffer that moves with each call; it belongs into checkpoints. On
    several processes each call sees the logits of all of them, so that averaging the centre over processes, as lightly
    does, leaves it what it is.

    Args:
        prototypes: P.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's centred logits.
        center_momentum: Share of itself the centre keeps in a call, 0…1.

    Raises:
        UsageError: lightly is not installed.
    """

    def __init__(
        self, prototypes: int, student_temperature: float, teacher_temperature: float, center_momentum: float
    ) -> None:
        super().__init__()
        lightly = require("lightly.loss", "ssl", "method.name=dino")
        self.inner: nn.Module = lightly.DINOLoss(
            output_dim=prototypes,
            warmup_teacher_temp=teacher_temperature,
            teacher_temp=teacher_temperature,
            student_temp=student_temperature,
            center_momentum=center_momentum,
        )

    def forward(self, student: Float[Tensor, "V N P"], teacher: Float[Tensor, "V N P"]) -> Float[Tensor, ""]:
        """Return the mean over images and pairs of different views, then move the centre.

        Args:
            student: Logits of V views of N images; take the gradient.
            teacher: Logits of the same views.
        """
        with autocast(student.device.type, enabled=False):
            loss: Tensor = self.inner(list(teacher.float()), list(student.float()))
        return loss
