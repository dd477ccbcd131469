"""2D-VoCo: a student learns from a momentum teacher where a crop of a slice stack lies (arXiv 2601.14593)."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voco2d.losses.voco import base_regularization, cosine_similarity, inter_loss, intra_loss, paper_v1_loss
from voco2d.methods.method import Batch, CropBatch, StepOutput
from voco2d.methods.taught_method import TaughtMethod
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import feature_map_size
from voco2d.models.heads import Projector
from voco2d.models.momentum import MomentumTeacher
from voco2d.models.unit_dropout import UnitDropout

IN_CHANS = 1


class ClipEncoder(nn.Module):
    """A 2D backbone, the mean of its flattened maps over a crop's slices, and a projector.

    Args:
        backbone: Gives a feature map (N, F, h, w).
        args: Settings.
    """

    def __init__(self, backbone: nn.Module, args: VoCoArgs) -> None:
        super().__init__()
        features, height, width = feature_map_size(backbone, IN_CHANS, args.side)
        # channels-last takes half of the time of a forward pass on a CPU
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.side = args.side
        self.slice_dropout = UnitDropout(args.feature_dropout if args.dropout_on == "slices" else 0.0)
        self.clip_dropout = nn.Dropout(args.feature_dropout if args.dropout_on == "clip" else 0.0)
        self.projector = Projector(features * height * width, args.hidden, args.projector_norm, args.projector_end)

    def clip(self, crops: Float[Tensor, "M S c c"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return each crop's clip feature: the mean over its slices of the flattened feature map.

        Args:
            crops: Intensities 0…1.
            seeds: Each crop's, for what is dropped from its slices.
        """
        count = len(crops)
        images = rearrange(crops, "m s r c -> (m s) 1 r c")
        if crops.shape[-1] != self.side:
            images = F.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)
        maps: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        clips: Tensor = reduce(self.slice_dropout(maps.float(), seeds), "(m s) f h w -> m (f h w)", "mean", m=count)
        return clips

    def project(self, clips: Float[Tensor, "B N F"]) -> Float[Tensor, "B N D"]:
        """Return the projected features of N crops of B volumes."""
        projected: Tensor = self.projector(self.clip_dropout(clips))
        return projected.float()


class VoCo(TaughtMethod):
    """2D-VoCo with the switches of `VoCoArgs`.

    Args:
        backbone: The student's backbone, its feature map not pooled; the teacher starts as a copy.
        args: Settings.
    """

    student: ClipEncoder

    def __init__(self, backbone: nn.Module, args: VoCoArgs) -> None:
        super().__init__()
        self.args = args
        self._trains_projector = args.teacher_projector == "gradient"
        self.student = ClipEncoder(backbone, args)
        self.teacher = MomentumTeacher(
            self.student,
            args.momentum,
            args.momentum_schedule,
            args.teacher_buffers,
            trained="projector" if self._trains_projector else "",
        )
        network: Any = self.teacher.network
        network.slice_dropout, network.clip_dropout = UnitDropout(0.0), nn.Identity()
        if args.teacher_start == "own":
            for layer in network.projector.layers:
                layer.reset_parameters()

    @staticmethod
    def features(network: Any, units: Float[Tensor, "M S c c"]) -> Float[Tensor, "M F"]:
        """Return the features that `network`, student or teacher, gives of crops (`units`)."""
        clips: Tensor = network.clip(units)
        return clips

    def encode(self, units: Float[Tensor, "M S c c"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return the student's features of crops, of whose slices each crop's seed drops some."""
        return self.student.clip(units, seeds)

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N F"] | None, batch: Batch) -> StepOutput:
        """Compute the terms of `loss`; only a teacher's projector that is trained by gradient keeps a graph."""
        assert isinstance(batch, CropBatch)
        assert teacher is not None
        own = self.student.project(rearrange(student, "(b n) f -> b n f", n=batch.views))
        network: Any = self.teacher.network
        with torch.set_grad_enabled(self._trains_projector and torch.is_grad_enabled()):
            taught: Tensor = network.project(rearrange(teacher, "(b n) f -> b n f", n=batch.views))
        terms = self._terms(own, taught, batch)
        count = batch.overlap.shape[1]
        similarity = cosine_similarity(own.detach()[:, :count], taught.detach()[:, count:])
        return StepOutput(terms, rearrange(own.detach(), "b n d -> (b n) d"), similarity, batch.overlap)

    def before_step(self, share: float) -> None:
        """Let the teacher follow the student where it does so one step late."""
        if self.args.teacher_follows == "before":
            self.teacher.update(self.student, share)

    def after_step(self, share: float) -> None:
        """Let the teacher follow the student."""
        if self.args.teacher_follows == "after":
            self.teacher.update(self.student, share)

    def _terms(
        self, student: Float[Tensor, "B N D"], teacher: Float[Tensor, "B N D"], batch: CropBatch
    ) -> dict[str, Float[Tensor, ""]]:
        count = batch.overlap.shape[1]
        student_random, student_base = student[:, :count], student[:, count:]
        teacher_random, teacher_base = teacher[:, :count], teacher[:, count:]
        if self.args.loss == "v1":
            crops = (student_random, teacher_random, student_base, teacher_base)
            terms = paper_v1_loss(*crops, batch.overlap, clamp=self.args.clamp)
            return dict(zip(("pos", "neg", "reg"), terms, strict=True))
        return {
            "intra": intra_loss(student_random, teacher_base, batch.overlap),
            "inter": inter_loss(
                student_random, teacher_random, student_base[batch.partner], teacher_base[batch.partner]
            ),
            "reg": base_regularization(student_base),
        }
