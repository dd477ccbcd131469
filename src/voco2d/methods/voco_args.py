"""Settings of 2D-VoCo; the defaults are the `voco2d` preset, `PAPER_V2` what the paper's second version does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class VoCoArgs:
    """How crops are drawn and what is learned from them (DESIGN.md, 2).

    Args:
        name: Key of the method in `METHODS`.
        grid: Base crops along a side of the slice.
        crop: Side of a crop, pixels; slices are resized to grid × crop.
        random_crops: Random crops a volume.
        slices: Slices a crop.
        hidden: Width of the projector's three layers.
        projector_norm: The projector's batch norm works per `feature` over all crops, or, as in the paper's code, per
            `position` of a crop over volumes and features.
        teacher_projector: The teacher's projector follows by `ema`, or is trained by `gradient` (paper).
        teacher_buffers: Whether the teacher's batch-norm statistics follow the student's; the paper's teacher keeps
            its own.
        momentum: Share of itself the teacher keeps in a step, at the start.
        momentum_schedule: The momentum rises on a `cosine` to 1, or is `constant` (paper).
        partners: The volume each is compared with is drawn at `random`, or is the `next` in the batch (paper).
        shuffle: Whether volumes come in a new order each time round; the paper's never change.
        depth: With `separate`, base crops take slices from the whole depth and each random crop from a part of its
            own, so that no crop shares its slices with another and only anatomy matches them. With `shared`, all crops
            take the same evenly spaced slices (paper).
        depth_share: Smallest part of the depth a random crop's slices span, 0…1, with `separate`.
        flips: Whether volumes are mirrored in-plane at random before they are cut.
        intensity: Largest change of contrast and gamma, and a third of it of brightness, different for each crop, 0…1.
        feature_dropout: Share of the student's features that is dropped before the projector.
    """

    name: Literal["voco"] = "voco"
    grid: int = 3
    crop: int = 64
    random_crops: int = 2
    slices: int = 32
    hidden: int = 2048
    projector_norm: Literal["feature", "position"] = "feature"
    teacher_projector: Literal["ema", "gradient"] = "ema"
    teacher_buffers: bool = True
    momentum: float = 0.9
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    partners: Literal["random", "next"] = "random"
    shuffle: bool = True
    depth: Literal["separate", "shared"] = "separate"
    depth_share: float = 0.5
    flips: bool = True
    intensity: float = 0.2
    feature_dropout: float = 0.2

    def __post_init__(self) -> None:
        for key in ("crop", "random_crops", "slices", "hidden"):
            if getattr(self, key) < 1:
                raise ConfigError(f"method.{key}={getattr(self, key)}: must be at least 1")
        if self.grid < 2:
            raise ConfigError(f"method.grid={self.grid}: must be at least 2, or there is nothing to compare")
        for key, low, high in (("momentum", 0, 1), ("depth_share", 0, 1), ("intensity", 0, 1)):
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f"method.{key}={getattr(self, key)}: must lie in {low}…{high}")
        if not 0 <= self.feature_dropout < 1:
            raise ConfigError(f"method.feature_dropout={self.feature_dropout}: must be at least 0 and below 1")

    @property
    def extent(self) -> int:
        """Side of a slice, pixels."""
        return self.grid * self.crop


PAPER_V2: Mapping[str, Any] = {
    "projector_norm": "position",
    "teacher_projector": "gradient",
    "teacher_buffers": False,
    "momentum": 0.9,
    "momentum_schedule": "constant",
    "partners": "next",
    "shuffle": False,
    "depth": "shared",
    "flips": False,
    "intensity": 0.0,
}
"""What the paper's second version does where it differs, and its momentum."""
