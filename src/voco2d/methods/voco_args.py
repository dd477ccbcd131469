"""Settings of 2D-VoCo; the defaults are the `voco2d` preset, `PAPER_V2` what the paper's second version does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class VoCoArgs:
    """How crops are drawn and what is learned from them (docs/method.md).

    Args:
        name: Key of the method in `METHODS`.
        loss: `v2` compares within a volume, with a partner, and among base crops; `v1` is the paper's first version,
            within a volume alone.
        clamp: Whether similarities are clamped to 0…1 before the logarithm. `v1` in the paper's code doesn't, and gives
            NaN where one differs from the overlap by 1 or more; `v2` always does.
        grid: Base crops along a side of the slice.
        crop: Side of a crop, pixels; slices are resized to grid × crop.
        encoded: Side to which crops are resized before they are encoded, pixels; None leaves them.
        random_crops: Random crops a volume.
        slices: Slices a crop.
        hidden: Width of the projector's three layers.
        projector_end: The projector's last layer is normalised like the others (`norm`), or bare (`linear`, paper).
        projector_norm: The projector's batch norm works per `feature` over all crops, or, as in the paper's code, per
            `position` of a crop over volumes and features.
        teacher_projector: The teacher's projector follows by `ema`, or is trained by `gradient` (paper).
        teacher_start: The teacher's projector starts as a `copy` of the student's, or on its `own` (paper).
        teacher_follows: The teacher moves `after` the optimizer's step, or `before` it (paper), one step late.
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
        dropout_on: What is dropped from: the mean over the `clip`'s slices, or each of its `slices` (paper).
    """

    name: Literal["voco"] = "voco"
    loss: Literal["v2", "v1"] = "v2"
    clamp: bool = True
    grid: int = 3
    crop: int = 64
    encoded: int | None = None
    random_crops: int = 2
    slices: int = 32
    hidden: int = 2048
    projector_end: Literal["norm", "linear"] = "norm"
    projector_norm: Literal["feature", "position"] = "feature"
    teacher_projector: Literal["ema", "gradient"] = "ema"
    teacher_start: Literal["copy", "own"] = "copy"
    teacher_follows: Literal["after", "before"] = "after"
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
    dropout_on: Literal["clip", "slices"] = "clip"

    def __post_init__(self) -> None:
        for key in ("crop", "random_crops", "slices", "hidden"):
            if getattr(self, key) < 1:
                raise ConfigError(f"method.{key}={getattr(self, key)}: must be at least 1")
        if self.encoded is not None and self.encoded < 1:
            raise ConfigError(f"method.encoded={self.encoded}: must be at least 1")
        if self.loss == "v2" and not self.clamp:
            raise ConfigError("method.clamp=false: method.loss=v2 always clamps; only v1 can do without")
        if self.grid < 2:
            raise ConfigError(f"method.grid={self.grid}: must be at least 2, or there is nothing to compare")
        for key, low, high in (("momentum", 0, 1), ("depth_share", 0, 1), ("intensity", 0, 1)):
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f"method.{key}={getattr(self, key)}: must lie in {low}…{high}")
        if not 0 <= self.feature_dropout < 1:
            raise ConfigError(f"method.feature_dropout={self.feature_dropout}: must be at least 0 and below 1")

    @property
    def side(self) -> int:
        """Side of a crop as it is encoded, pixels."""
        return self.encoded or self.crop

    @property
    def extent(self) -> int:
        """Side of a slice, pixels."""
        return self.grid * self.crop

    @property
    def images_per_volume(self) -> int:
        """Images the student encodes for each volume of a batch."""
        return self.slices * (self.random_crops + self.grid**2)


PAPER_V2: Mapping[str, Any] = {
    "projector_end": "linear",
    "projector_norm": "position",
    "teacher_projector": "gradient",
    "teacher_start": "own",
    "teacher_follows": "before",
    "teacher_buffers": False,
    "momentum": 0.9,
    "momentum_schedule": "constant",
    "partners": "next",
    "shuffle": False,
    "depth": "shared",
    "flips": False,
    "intensity": 0.0,
    "dropout_on": "slices",
}
"""What the paper's second version does where it differs, and its momentum."""

PAPER_V1: Mapping[str, Any] = {**PAPER_V2, "loss": "v1", "clamp": False, "grid": 4, "crop": 96, "encoded": 64}
"""The paper's first version: a finer grid on larger slices, and no partner."""
