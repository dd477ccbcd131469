"""Configuration of pretraining and its presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voco2d.config import Tree
from voco2d.errors import ConfigError
from voco2d.methods.registry import MethodArgs
from voco2d.methods.voco_args import PAPER_V1, PAPER_V2, VoCoArgs
from voco2d.training.optim import OptimArgs
from voco2d.training.probe import ProbeArgs
from voco2d.training.symptoms import AlarmArgs
from voco2d.training.writers import WriterName

MAY_CHANGE = (
    "steps", "checkpoint_every", "keep_checkpoints", "log_every", "device", "devices", "nodes", "residency", "fast_cpu",
    "chunk", "alarm", "probe", "writers",
)  # fmt: skip
"""Keys in which a continued run may differ from what it was; `fast_cpu` rounds otherwise, as another `device` does.

`chunk` is the way out when memory runs out: the loss stays, batch norm sees other parts of a batch.
"""


@dataclass(frozen=True)
class PretrainArgs:
    """How a backbone is pretrained.

    Args:
        backbone: timm name.
        init: Where the backbone starts: `random`, `imagenet`, or the path of a checkpoint.
        steps: Optimizer steps.
        batch_size: Volumes a step over all devices; `voco` compares each with another and needs 2.
        chunk: Crops or views that are encoded at a time, each of all its slices; 0 encodes the whole batch at once. A
            smaller number takes less memory and up to a third more time; the loss stays that of the whole batch, but
            batch norm sees a chunk at a time.
        checkpoint_every: Steps between two checkpoints; there is one at the end too.
        keep_checkpoints: Checkpoints that stay; 0 keeps all.
        log_every: Steps between two lines of `metrics.jsonl`.
        seed: Seed of everything random.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        devices: GPUs, or processes on the CPU, on each machine; torchrun and SLURM say it themselves.
        nodes: Machines; needs torchrun or SLURM.
        compile: Whether the backbone is compiled with torch.compile.
        fast_cpu: Whether EfficientNets take fused loops on a CPU in `fp32`, with the same weights and results but for
            rounding; they stand aside for `compile`, and for the shared norms of several processes.
        residency: Where volumes are read from: `disk`, a copy of all of them on the `device`, or `auto`, which copies
            them to a GPU half of whose free memory holds them.
        precision: `fp32`, `bf16` or `fp16`.
        window_hu: HU that become 0 and 1.
        schedule_steps: Steps over which the learning rate and the teacher's momentum run; None takes `steps`.
        writers: Where records go besides `metrics.jsonl`: `tensorboard`, `mlflow`, `wandb`.
        alarm: When the run counts as sick, and whether it then stops.
        probe: How its features are probed on labelled patients; off without `probe.labels`.
        method: The method and its settings; `method.name` chooses which settings there are.
        optim: The optimizer and its schedule.
    """

    backbone: str = "efficientnet_b0"
    init: str = "random"
    steps: int = 100_000
    batch_size: int = 4
    chunk: int = 0
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    log_every: int = 20
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "fp32"
    compile: bool = False
    fast_cpu: bool = True
    residency: Literal["auto", "disk", "device"] = "auto"
    window_hu: tuple[float, float] = (-175.0, 250.0)
    schedule_steps: int | None = None
    writers: tuple[WriterName, ...] = ("tensorboard",)
    alarm: AlarmArgs = field(default_factory=AlarmArgs)
    probe: ProbeArgs = field(default_factory=ProbeArgs)
    method: MethodArgs = field(default_factory=VoCoArgs)
    optim: OptimArgs = field(default_factory=lambda: OptimArgs(lr=3e-4, warmup_steps=1000))

    def __post_init__(self) -> None:
        for key in ("steps", "checkpoint_every", "log_every", "devices", "nodes"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 1")
        if self.schedule_steps is not None and self.schedule_steps < 1:
            raise ConfigError(f"schedule_steps={self.schedule_steps}: must be at least 1; leave it out to take steps")
        for key in ("keep_checkpoints", "chunk"):
            if getattr(self, key) < 0:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 0")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed={self.seed}: must lie in 0…{2**32 - 1}")
        if not -math.inf < self.window_hu[0] < self.window_hu[1] < math.inf:
            raise ConfigError(f"window_hu={list(self.window_hu)}: both must be finite, the first below the second")

    @property
    def horizon(self) -> int:
        """Steps over which the schedules run."""
        return self.steps if self.schedule_steps is None else self.schedule_steps

    @property
    def images_per_step(self) -> int:
        """Images the student encodes in a step, over all devices; what equal compute is told by."""
        return self.batch_size * self.method.images_per_volume


_PAPER: Mapping[str, Any] = {
    "init": "imagenet",
    "steps": 60_000,
    "schedule_steps": 250_000,
    "checkpoint_every": 10_000,
    "keep_checkpoints": 0,
    "optim": {
        "name": "adamw",
        "lr": 1e-4,
        "amsgrad": True,
        "schedule": "cosine",
        "warmup_steps": 5000,
        "grad_clip": 0.0,
    },
}

PRESETS: Mapping[str, Tree] = {
    "voco2d": {},
    "paper-v2": {**_PAPER, "method": dict(PAPER_V2)},
    "paper-v1": {**_PAPER, "batch_size": 1, "method": dict(PAPER_V1)},
    "simclr": {"batch_size": 22, "method": {"name": "simclr"}},
    "byol": {"batch_size": 22, "method": {"name": "byol"}},
    "dino": {"batch_size": 22, "method": {"name": "dino"}},
    "simmim": {"batch_size": 44, "method": {"name": "simmim"}},
}
"""What differs from the defaults. The paper uses its checkpoints at 30k and 60k steps of a schedule of 250k.

The methods on views take as many volumes as make a step of as many images as one of `voco2d`.
"""
