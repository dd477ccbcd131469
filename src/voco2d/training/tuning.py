"""Which part of a started backbone is trained, and how fast: probing, partial freezing, rates by stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import group_parameters
from torch import nn

from voco2d.errors import ConfigError
from voco2d.models.classifier import Classifier


@dataclass(frozen=True)
class TuningArgs:
    """How the backbone is trained; its stages are timm's, the first the convolution of the image.

    Args:
        probe: Train nothing of the backbone. With `aggregator=mean` and `pooling=avg` that is a linear probe.
        freeze_first: Stages that aren't trained, from the image on.
        train_last: Stages that are trained, the others not; None trains all that `freeze_first` leaves.
        backbone_lr: Learning rate of the backbone, as a share of that of the aggregator and the heads.
        stage_decay: Learning rate of a stage, as a share of that of the stage after it.
    """

    probe: bool = False
    freeze_first: int = 0
    train_last: int | None = None
    backbone_lr: float = 1.0
    stage_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.freeze_first < 0 or (self.train_last is not None and self.train_last < 0):
            raise ConfigError("tuning: freeze_first and train_last must be at least 0")
        if (self.probe, self.freeze_first > 0, self.train_last is not None).count(True) > 1:
            raise ConfigError("tuning: probe, freeze_first and train_last exclude each other; set one of them")
        if self.backbone_lr <= 0 or not 0 < self.stage_decay <= 1:
            raise ConfigError("tuning: backbone_lr must be above 0, stage_decay above 0 and at most 1")


def backbone_stages(backbone: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each stage, from the image on, as timm groups them.

    Raises:
        ConfigError: timm doesn't tell the stages of this backbone.
    """
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise ConfigError(f"tuning: timm tells no stages of {type(backbone).__name__}; leave tuning as it is")
    stage_of = group_parameters(backbone, matcher(coarse=True), reverse=True)
    stages: dict[int, list[str]] = {}
    for name, _ in backbone.named_parameters():
        stages.setdefault(int(stage_of[name]), []).append(name)
    return [stages[number] for number in sorted(stages)]


def tune(model: Classifier, args: TuningArgs, lr: float) -> list[nn.Parameter | dict[str, Any]]:
    """Freeze what isn't trained and return what is, for the optimizer.

    Args:
        model: The classifier; the frozen parameters of its backbone stop taking gradients.
        args: Settings.
        lr: Learning rate of the aggregator and the heads.

    Returns:
        Parameters, or groups with their learning rates where these differ, that of the heads first.

    Raises:
        ConfigError: The backbone has fewer stages than `args` names.
    """
    if args == TuningArgs():
        return list(model.parameters())
    stages = backbone_stages(model.backbone)
    parameters = dict(model.backbone.named_parameters())
    first = _first_trained(args, len(stages))
    for name in (name for stage in stages[:first] for name in stage):
        parameters[name].requires_grad_(False)
    heads = [parameter for name, parameter in model.named_parameters() if not name.startswith("backbone.")]
    groups: list[nn.Parameter | dict[str, Any]] = [{"params": heads, "lr": lr}]
    for number in range(first, len(stages)):
        rate = lr * args.backbone_lr * args.stage_decay ** (len(stages) - 1 - number)
        groups.append({"params": [parameters[name] for name in stages[number]], "lr": rate})
    return groups


def frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the largest parts of which no parameter is trained; their batch norms must keep their statistics."""
    taken = [parameter.requires_grad for parameter in module.parameters()]
    if taken and not any(taken):
        yield module
    elif not all(taken):
        for child in module.children():
            yield from frozen_parts(child)


def set_training(model: nn.Module, frozen: Sequence[nn.Module]) -> None:
    """Switch to training mode, but for parts that aren't trained."""
    model.train()
    for part in frozen:
        part.eval()


def _first_trained(args: TuningArgs, stages: int) -> int:
    if args.probe:
        return stages
    first = args.freeze_first if args.train_last is None else stages - args.train_last
    if not 0 <= first <= stages:
        named = f"freeze_first={args.freeze_first}" if args.train_last is None else f"train_last={args.train_last}"
        raise ConfigError(f"tuning.{named}: the backbone has {stages} stages; set at most that")
    return first
