"""Configuration of fine-tuning."""

from dataclasses import dataclass, field

from voco2d.data.augment import AugmentArgs
from voco2d.errors import ConfigError
from voco2d.losses.injury import InjuryLossArgs
from voco2d.models.aggregators import AGGREGATORS
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.training.optim import OptimArgs

MAY_CHANGE = ("device", "run_folds", "fold", "preload_mb")
"""Keys that a continued run may have otherwise than before."""
_SEEDS = 2**32
"""NumPy's legacy generator, which the splitter of folds uses, takes seeds below this."""


def _default_optim() -> OptimArgs:
    return OptimArgs(name="adamw", lr=1e-3, weight_decay=1e-2, schedule="one_cycle", grad_clip=1.0)


@dataclass(frozen=True)
class FinetuneArgs:
    """Settings of `finetune`.

    Args:
        backbone: timm name; by default the checkpoint's, or efficientnet_b0 where there is no checkpoint.
        aggregator: How slices become one vector: lstm, mean or max.
        hidden: Units of each direction of the LSTM.
        dropout: Share of the volume's features dropped before the heads.
        epochs: Passes over the training patients of a fold.
        batch_size: Volumes a step.
        folds: Parts the patients are split into.
        run_folds: How many of them are trained, from the first; all by default.
        fold: The only one that is trained; None leaves that to `run_folds`.
        fraction: Share of the training patients whose labels are used, above 0 and up to 1. Drawn by `seed`, alike in
            every class, and nested: the patients of a smaller share are among those of a larger one.
        transductive: Allow a checkpoint that has seen patients it is graded on; all tables say so then.
        seed: Decides folds, starts, order, augmentation and dropout; 0 to 2³² − 1.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        preload_mb: The prepared volumes stay in memory if they fit into this many MB.
        readout: What the classifier sees of a prepared volume.
        augment: Changes of training volumes.
        optim: Optimizer and schedule.
        loss: Terms of the loss.
    """

    backbone: str | None = None
    aggregator: str = "lstm"
    hidden: int = 128
    dropout: float = 0.2
    epochs: int = 20
    batch_size: int = 4
    folds: int = 5
    run_folds: int | None = None
    fold: int | None = None
    fraction: float = 1.0
    transductive: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    preload_mb: int = 2048
    readout: ReadoutArgs = field(default_factory=ReadoutArgs)
    augment: AugmentArgs = field(default_factory=AugmentArgs)
    optim: OptimArgs = field(default_factory=_default_optim)
    loss: InjuryLossArgs = field(default_factory=InjuryLossArgs)

    def __post_init__(self) -> None:
        """Refuse values that can't run."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("hidden", 1), ("preload_mb", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least {low}")
        if self.run_folds is not None and not 1 <= self.run_folds <= self.folds:
            raise ConfigError(f"run_folds={self.run_folds}: must lie in 1…{self.folds}, the number of folds")
        if self.fold is not None and (self.run_folds is not None or not 0 <= self.fold < self.folds):
            raise ConfigError(f"fold={self.fold}: must lie in 0…{self.folds - 1}, and goes without run_folds")
        if not 0 <= self.seed < _SEEDS:
            raise ConfigError(f"seed={self.seed}: must lie in 0…{_SEEDS - 1}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must lie in 0…1, 1 excluded")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction={self.fraction}: must be above 0 and at most 1")
        if self.aggregator not in AGGREGATORS:
            raise ConfigError(f"aggregator={self.aggregator} is not known; choose {', '.join(AGGREGATORS)}")
