"""Configuration of fine-tuning and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voco2d.config import Tree
from voco2d.data.augment import AugmentArgs
from voco2d.data.sampling import Sampling
from voco2d.errors import ConfigError
from voco2d.losses.injury import InjuryLossArgs
from voco2d.losses.slices import SliceLossArgs
from voco2d.models.aggregators import AGGREGATORS
from voco2d.models.flip_average import check_flips
from voco2d.models.pooling import check_pooling
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.target_block import parse_targets
from voco2d.targets import TargetSet
from voco2d.training.optim import OptimArgs
from voco2d.training.selection import Select
from voco2d.training.tuning import TuningArgs

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
        targets: What is graded, name → `kind` (binary, ordinal or multiclass), `classes` and maybe `weights`, see
            docs/how-to/other-targets.md; by default RSNA 2023's five.
        backbone: timm name; by default the checkpoint's, or efficientnet_b0 where there is no checkpoint.
        pooling: How a slice's feature map becomes a vector: avg, max, gem, or both (average and maximum).
        aggregator: How slices become one vector: lstm, gru, transformer, attention, mean or max.
        hidden: Units of each direction of the LSTM or GRU; half the width of the transformer.
        bidirectional: Whether LSTM and GRU go along the slices both ways.
        layers: Layers of LSTM, GRU and transformer.
        dropout: Share of the volume's features dropped before the heads.
        epochs: Passes over the training patients of a fold.
        batch_size: Volumes a step.
        accumulate: Parts that a step's volumes are computed in, one after the other, to save memory; the step stays
            that of the whole batch, but batch norm sees a part at a time.
        ema: Share of itself that a moving average of the weights keeps in a step; it is the average that is validated
            and saved then. 0 takes the weights as they are.
        sampling: An epoch takes each series once (`shuffle`), or draws rare classes more often (`balanced`).
        select: Keep the epoch of the lowest validation score, the mean of the targets' sample-weighted log losses
            (`score`, or `rsna`, which is what it is for RSNA's targets), of the lowest `loss`, or the `last`.
        patience: Stop a fold when its validation loss has not fallen for so many epochs; 0 never does.
        test_flips: Average over mirror images when grading: any of depth, height and width.
        folds: Parts the patients are split into.
        run_folds: How many of them are trained, from the first; all by default.
        fold: The only one that is trained; None leaves that to `run_folds`.
        fraction: Share of the training patients whose labels are used, above 0 and up to 1. Drawn by `seed`, alike in
            every class, and nested: the patients of a smaller share are among those of a larger one.
        transductive: Allow a checkpoint that has seen patients it is graded on; all tables say so then.
        seed: Decides folds, starts, order, augmentation and dropout; 0 to 2³² − 1.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        fast_cpu: Train EfficientNets by fused loops on a CPU in fp32; elsewhere it changes nothing. Needs numba.
        preload_mb: The prepared volumes stay in memory if they fit into this many MB.
        readout: What the classifier sees of a prepared volume.
        augment: Changes of training volumes.
        tuning: Which part of the backbone is trained, and how fast.
        optim: Optimizer and schedule.
        loss: Terms of the loss.
        slice_loss: The loss on single slices, where slice labels are given.
    """

    targets: dict[str, Any] | None = None
    backbone: str | None = None
    pooling: str = "avg"
    aggregator: str = "lstm"
    hidden: int = 128
    bidirectional: bool = True
    layers: int = 1
    dropout: float = 0.2
    epochs: int = 20
    batch_size: int = 4
    accumulate: int = 1
    ema: float = 0.0
    sampling: Sampling = "shuffle"
    select: Select = "rsna"
    patience: int = 0
    test_flips: tuple[str, ...] = ()
    folds: int = 5
    run_folds: int | None = None
    fold: int | None = None
    fraction: float = 1.0
    transductive: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    fast_cpu: bool = False
    preload_mb: int = 2048
    readout: ReadoutArgs = field(default_factory=ReadoutArgs)
    augment: AugmentArgs = field(default_factory=AugmentArgs)
    tuning: TuningArgs = field(default_factory=TuningArgs)
    optim: OptimArgs = field(default_factory=_default_optim)
    loss: InjuryLossArgs = field(default_factory=InjuryLossArgs)
    slice_loss: SliceLossArgs = field(default_factory=SliceLossArgs)

    def __post_init__(self) -> None:
        """Refuse values that can't run."""
        parse_targets(self.targets)
        lowest = {"epochs": 1, "batch_size": 1, "accumulate": 1, "hidden": 1, "layers": 1, "patience": 0}
        for name, low in {**lowest, "preload_mb": 0}.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least {low}")
        if self.run_folds is not None and not 1 <= self.run_folds <= self.folds:
            raise ConfigError(f"run_folds={self.run_folds}: must lie in 1…{self.folds}, the number of folds")
        if self.fold is not None and (self.run_folds is not None or not 0 <= self.fold < self.folds):
            raise ConfigError(f"fold={self.fold}: must lie in 0…{self.folds - 1}, and goes without run_folds")
        if not 0 <= self.seed < _SEEDS:
            raise ConfigError(f"seed={self.seed}: must lie in 0…{_SEEDS - 1}")
        for name in ("dropout", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must lie in 0…1, 1 excluded")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction={self.fraction}: must be above 0 and at most 1")
        if self.aggregator not in AGGREGATORS:
            raise ConfigError(f"aggregator={self.aggregator} is not known; choose {', '.join(AGGREGATORS)}")
        check_pooling(self.pooling)
        check_flips(self.test_flips)

    @property
    def target_set(self) -> TargetSet:
        """What is graded."""
        return parse_targets(self.targets)


PRESETS: Mapping[str, Tree] = {
    "paper": {
        "pooling": "avg",
        "aggregator": "lstm",
        "hidden": 128,
        "bidirectional": True,
        "layers": 1,
        "readout": {"slices": 48, "crop": 192, "window": [-175.0, 250.0]},
        "augment": {
            "flip_depth": False,
            "flip_height": True,
            "flip_width": True,
            "turn": True,
            "rotate": 15.0,
            "crop": 0.0,
            "contrast": 0.2,
            "brightness": 0.0,
            "histogram": 0.5,
            "noise": 0.0,
            "cut_out": 2,
        },
    }
}
"""What is said of the paper's classifier: its network and read-out, and the kinds of augmentation. It doesn't tell how
large those changes are, nor rates and epochs: these are ours."""
