"""3D VoCo, which 2D-VoCo comes from, as the baseline of what a step costs (arXiv 2402.17300)."""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.errors import ConfigError
from voco2d.losses.voco import cosine_similarity, paper_v1_loss
from voco2d.methods.method import Batch, CropBatch, StepOutput
from voco2d.methods.taught_method import TaughtMethod
from voco2d.models.heads import Projector
from voco2d.models.momentum import MomentumTeacher
from voco2d.models.swin3d import DIVISOR, FEATURES, Swin3D


@dataclass(frozen=True)
class VoCo3DArgs:
    """Settings of 3D VoCo.

    Args:
        grid: Base crops along a side of the slice; there is one layer of them.
        crop: Side of a crop, a cube, voxels.
        random_crops: Random crops a volume.
        hidden: Width of the projector's three layers.
        momentum: Share of itself the teacher keeps in a step.
        checkpointing: Whether the backward pass computes the encoder's blocks once more instead of keeping what it
            needs of them.
    """

    grid: int = 4
    crop: int = 64
    random_crops: int = 2
    hidden: int = 2048
    momentum: float = 0.9
    checkpointing: bool = True

    def __post_init__(self) -> None:
        if self.crop < 1 or self.crop % DIVISOR:
            raise ConfigError(f"crop={self.crop}: 3D VoCo takes crops whose side is a multiple of {DIVISOR} voxels")


class VolumeEncoder(nn.Module):
    """A 3D backbone and a projector.

    Args:
        args: Settings.

    Raises:
        UsageError: MONAI is not installed.
    """

    def __init__(self, args: VoCo3DArgs) -> None:
        super().__init__()
        self.backbone = Swin3D(args.checkpointing)
        self.projector = Projector(FEATURES, args.hidden, norm="feature")

    def clip(self, crops: Float[Tensor, "M c c c"]) -> Float[Tensor, "M F"]:
        """Return each crop's feature."""
        features: Tensor = self.backbone(rearrange(crops, "m z r c -> m 1 z r c"))
        return features

    def project(self, clips: Float[Tensor, "B N F"]) -> Float[Tensor, "B N D"]:
        """Return the projected features of N crops of B volumes."""
        projected: Tensor = self.projector(clips)
        return projected


class VoCo3D(TaughtMethod):
    """3D VoCo: a student learns which base cubes a random cube overlaps; its teacher takes no gradient.

    It isn't offered for pretraining: only `voco2d bench cost` runs it.

    Args:
        args: Settings.

    Raises:
        UsageError: MONAI is not installed.
    """

    student: VolumeEncoder

    def __init__(self, args: VoCo3DArgs) -> None:
        super().__init__()
        self.student = VolumeEncoder(args)
        self.teacher = MomentumTeacher(self.student, args.momentum, "constant", buffers=True)

    @staticmethod
    def features(network: Any, units: Float[Tensor, "M c c c"]) -> Float[Tensor, "M F"]:
        """Return a network's features of crops."""
        clips: Tensor = network.clip(units)
        return clips

    def contrast(self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N F"] | None, batch: Batch) -> StepOutput:
        """Compute the loss within each volume; similarities are clamped, so that none of it is NaN."""
        assert isinstance(batch, CropBatch)
        assert teacher is not None
        network: Any = self.teacher.network
        own = self.student.project(rearrange(student, "(b n) f -> b n f", n=batch.views))
        with torch.no_grad():
            taught: Tensor = network.project(rearrange(teacher, "(b n) f -> b n f", n=batch.views))
        count = batch.overlap.shape[1]
        crops = (own[:, :count], taught[:, :count], own[:, count:], taught[:, count:])
        terms = paper_v1_loss(*crops, batch.overlap, clamp=True)
        similarity = cosine_similarity(own.detach()[:, :count], taught[:, count:])
        features = rearrange(own.detach(), "b n d -> (b n) d")
        return StepOutput(dict(zip(("pos", "neg", "reg"), terms, strict=True)), features, similarity, batch.overlap)
