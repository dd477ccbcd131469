"""2D-VoCo: a student learns from a momentum teacher where a crop of a slice stack lies (arXiv 2601.14593)."""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import CheckpointError
from voco2d.losses.voco import base_regularization, cosine_similarity, inter_loss, intra_loss
from voco2d.methods.method import CropBatch, Method, StepOutput
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import feature_map_size
from voco2d.models.heads import Projector
from voco2d.models.momentum import MomentumTeacher

IN_CHANS = 1


class ClipEncoder(nn.Module):
    """A 2D backbone, the mean of its flattened maps over a crop's slices, and a projector.

    Args:
        backbone: Gives a feature map (N, F, h, w).
        args: Settings.
    """

    def __init__(self, backbone: nn.Module, args: VoCoArgs) -> None:
        super().__init__()
        features, height, width = feature_map_size(backbone, IN_CHANS, args.crop)
        # channels-last takes half of the time of a forward pass on a CPU
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.dropout = nn.Dropout(args.feature_dropout)
        self.projector = Projector(features * height * width, args.hidden, args.projector_norm)

    def clip(self, crops: Float[Tensor, "B N S c c"]) -> Float[Tensor, "B N F"]:
        """Return each crop's clip feature: the mean over its slices of the flattened feature map."""
        volumes, count = crops.shape[:2]
        images = rearrange(crops, "b n s r c -> (b n s) 1 r c")
        maps: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return reduce(maps.float(), "(b n s) f h w -> b n (f h w)", "mean", b=volumes, n=count)

    def forward(self, crops: Float[Tensor, "B N S c c"]) -> Float[Tensor, "B N D"]:
        """Return each crop's projected feature."""
        projected: Tensor = self.projector(self.dropout(self.clip(crops)))
        return projected


class VoCo(Method):
    """2D-VoCo with the switches of `VoCoArgs`.

    Args:
        backbone: The student's backbone, its feature map not pooled; the teacher starts as a copy.
        args: Settings.
    """

    def __init__(self, backbone: nn.Module, args: VoCoArgs) -> None:
        super().__init__()
        self._trains_projector = args.teacher_projector == "gradient"
        self.student = ClipEncoder(backbone, args)
        self.teacher = MomentumTeacher(
            self.student,
            args.momentum,
            args.momentum_schedule,
            args.teacher_buffers,
            trained="projector" if self._trains_projector else "",
        )
        self.teacher.network.dropout = nn.Identity()

    def forward(self, batch: CropBatch) -> StepOutput:
        """Compute intra, inter and reg; both networks see all crops of the batch at once, random ones first."""
        count = batch.random.shape[1]
        crops = torch.cat([batch.random, batch.base], dim=1)  # (B, R + K, S, c, c)
        student = self.student(crops).float()
        teacher = self._teach(crops).float()
        student_random, student_base = student[:, :count], student[:, count:]
        teacher_random, teacher_base = teacher[:, :count], teacher[:, count:]
        terms = {
            "intra": intra_loss(student_random, teacher_base, batch.overlap),
            "inter": inter_loss(
                student_random, teacher_random, student_base[batch.partner], teacher_base[batch.partner]
            ),
            "reg": base_regularization(student_base),
        }
        similarity = cosine_similarity(student_random.detach(), teacher_base.detach())
        return StepOutput(terms, rearrange(student.detach(), "b n d -> (b n) d"), similarity, batch.overlap)

    def after_step(self, share: float) -> None:
        """Let the teacher follow the student."""
        self.teacher.update(self.student, share)

    def teacher_distance(self) -> float:
        """Return ‖teacher − student‖ / ‖student‖ over the backbone's parameters."""
        return self.teacher.distance(self.student, "backbone")

    def weights(self) -> dict[str, Tensor]:
        """Return `student.backbone.*`, `student.projector.*` and the same of the teacher."""
        networks = {"student": self.student, "teacher": self.teacher.network}
        return {f"{name}.{key}": tensor for name, net in networks.items() for key, tensor in net.state_dict().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take back what `weights` returned."""
        for name, network in (("student", self.student), ("teacher", self.teacher.network)):
            prefix = f"{name}."
            own = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
            try:
                network.load_state_dict(own, strict=True)
            except RuntimeError as error:
                raise CheckpointError(f"the {name}'s weights are of another architecture: {error}") from error

    def _teach(self, crops: Float[Tensor, "B N S c c"]) -> Float[Tensor, "B N D"]:
        """Run the teacher; only a projector trained by gradient keeps a graph."""
        network: Any = self.teacher.network
        with torch.no_grad():
            clips: Tensor = network.clip(crops)
        with torch.set_grad_enabled(self._trains_projector and torch.is_grad_enabled()):
            projected: Tensor = network.projector(clips)
        return projected
