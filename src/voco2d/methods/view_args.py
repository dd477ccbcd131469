"""Settings of the methods that learn from views of single slices; defaults are the publications', where they can be."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class ViewArgs:
    """How views are made, for all these methods.

    A view is a random rectangle of a slice, resized to a square and changed; each view of a slice has its own.

    Args:
        name: Key of the method in `METHODS`.
        slices: Slices a volume, one from each of as many equal parts of its depth.
        crop: Side of a view, pixels.
        area: Smallest and largest share of the slice's area a view shows, 0…1.
        flips: Whether views are mirrored in-plane at random.
        intensity: Largest change of contrast and gamma, and a third of it of brightness, 0…1.
        blur: Largest standard deviation with which half of the views are blurred, pixels of the view; 0 blurs none.
        shuffle: Whether volumes come in a new order each time round.
    """

    VIEWS: ClassVar[int] = 2

    name: str = ""
    slices: int = 32
    crop: int = 64
    area: tuple[float, float] = (0.08, 1.0)
    flips: bool = True
    intensity: float = 0.4
    blur: float = 0.6
    shuffle: bool = True

    def __post_init__(self) -> None:
        _at_least_one(self, "slices", "crop")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ConfigError(f"method.area={list(self.area)}: two shares above 0 and up to 1, the smaller first")
        if not 0 <= self.intensity <= 1:
            raise ConfigError(f"method.intensity={self.intensity}: must lie in 0…1")
        if self.blur < 0:
            raise ConfigError(f"method.blur={self.blur}: must be at least 0")

    @property
    def images_per_volume(self) -> int:
        """Images the student encodes for each volume of a batch."""
        return self.slices * self.VIEWS


@dataclass(frozen=True)
class SimCLRArgs(ViewArgs):
    """Settings of SimCLR (arXiv 2002.05709), besides those of its views.

    Args:
        hidden: Width of the projector's first layer.
        out: Width of its second.
        temperature: Divides the cosines; the publication's best for small batches.
    """

    name: Literal["simclr"] = "simclr"
    hidden: int = 2048
    out: int = 128
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one(self, "hidden", "out")
        _above_zero(self, "temperature")


@dataclass(frozen=True)
class BYOLArgs(ViewArgs):
    """Settings of BYOL (arXiv 2006.07733), besides those of its views.

    Args:
        hidden: Width of the first layer of the projector and the predictor.
        out: Width of their second.
        momentum: Share of itself the teacher keeps in a step, at the start; it rises on a cosine to 1.
    """

    name: Literal["byol"] = "byol"
    hidden: int = 4096
    out: int = 256
    momentum: float = 0.996

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one(self, "hidden", "out")
        _share(self, "momentum")


@dataclass(frozen=True)
class DINOArgs(ViewArgs):
    """Settings of DINO (arXiv 2104.14294) with two views of one size, besides those of its views.

    Args:
        area: As in `ViewArgs`; the publication's for two views.
        hidden: Width of the projector's inner layers.
        bottleneck: Width of what is compared with the prototypes.
        prototypes: Their number; the publication's 65536 are for a million images.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's.
        center_momentum: Share of itself the centre of the teacher's logits keeps in a step.
        momentum: Share of itself the teacher keeps in a step, at the start; it rises on a cosine to 1.
        freeze: Share of the training in which the prototypes stay as they are.
    """

    name: Literal["dino"] = "dino"
    area: tuple[float, float] = (0.25, 1.0)
    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 4096
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    center_momentum: float = 0.9
    momentum: float = 0.996
    freeze: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one(self, "hidden", "bottleneck", "prototypes")
        _above_zero(self, "student_temperature", "teacher_temperature")
        _share(self, "center_momentum", "momentum", "freeze")


@dataclass(frozen=True)
class SimMIMArgs(ViewArgs):
    """Settings of SimMIM (arXiv 2111.09886), besides those of its one view a slice.

    Args:
        area: As in `ViewArgs`; near the slice's own resolution, since pixels are what is predicted.
        intensity: As in `ViewArgs`; the publication changes none.
        blur: Likewise.
        patch: Side of the squares that are hidden, pixels; it divides `crop`.
        hidden_share: Share of the squares that are hidden, 0…1.
    """

    VIEWS: ClassVar[int] = 1

    name: Literal["simmim"] = "simmim"
    area: tuple[float, float] = (0.1, 0.5)
    intensity: float = 0.0
    blur: float = 0.0
    patch: int = 16
    hidden_share: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least_one(self, "patch")
        if self.crop % self.patch or self.crop == self.patch:
            raise ConfigError(f"method.patch={self.patch}: must divide method.crop={self.crop} into at least 2 × 2")
        _share(self, "hidden_share")

    @property
    def grid(self) -> int:
        """Squares along a side of a view."""
        return self.crop // self.patch

    @property
    def hidden_squares(self) -> int:
        """Squares that are hidden, at least one and not all."""
        return min(max(round(self.hidden_share * self.grid**2), 1), self.grid**2 - 1)


def _at_least_one(args: ViewArgs, *keys: str) -> None:
    for key in keys:
        if getattr(args, key) < 1:
            raise ConfigError(f"method.{key}={getattr(args, key)}: must be at least 1")


def _above_zero(args: ViewArgs, *keys: str) -> None:
    for key in keys:
        if not getattr(args, key) > 0:
            raise ConfigError(f"method.{key}={getattr(args, key)}: must be above 0")


def _share(args: ViewArgs, *keys: str) -> None:
    for key in keys:
        if not 0 <= getattr(args, key) <= 1:
            raise ConfigError(f"method.{key}={getattr(args, key)}: must lie in 0…1")
