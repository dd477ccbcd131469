"""Checkpoints of a pretraining run: weights anyone can use, and what continuing the run needs besides."""

import logging
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from voco2d.durable import write_durably
from voco2d.errors import CheckpointError
from voco2d.methods.method import Method
from voco2d.models.checkpoint import read_weights, save_weights

_log = logging.getLogger(__name__)
_DIGITS = 8
_ASIDE = ".aside"
"""What the names of files end in that `set_aside` moved."""
_NO_STEP = -1
_OF_ARCHIVES = (zipfile.BadZipFile, NotImplementedError)
"""What zipfile raises at a file that is no archive, or whose headers are damaged."""


@dataclass(frozen=True)
class TrainingState:
    """Everything a step changes.

    Args:
        method: Networks.
        optimizer: Optimizer of the method's trained parameters.
        schedule: Its schedule.
        fabric: Where it runs; its precision may hold a gradient scale.
    """

    method: Method
    optimizer: Optimizer
    schedule: LambdaLR
    fabric: Fabric

    def save(self, run: Path, step: int, metadata: Mapping[str, Any], keep: int) -> None:
        """Write the checkpoint of `step`, and delete what it makes needless.

        That is all but the last `keep` complete ones up to it (0 keeps all), and what `set_aside` moved and it repeats.
        """
        save_weights(weights_path(run, step), self.method.weights(), {**metadata, "step": step})
        extra = {
            "step": step,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scale": self.fabric.strategy.precision.state_dict(),
        }
        save_tensors(resume_path(run, step), extra)
        complete = [done for done in saved_steps(run) if done <= step and is_complete(run, done)]
        for old in saved_steps(run):
            if keep and old < complete[-keep:][0]:
                resume_path(run, old).unlink(missing_ok=True)
                weights_path(run, old).unlink(missing_ok=True)
        for file in _checkpoint_files(run, _ASIDE):
            if _NO_STEP < _step_of(file.with_suffix("")) <= step:
                file.unlink()

    def load(self, run: Path, step: int) -> None:
        """Take back the checkpoint of `step`.

        Raises:
            CheckpointError: It is incomplete or damaged, or of another architecture.
        """
        weights, _ = read_weights(weights_path(run, step))
        file = resume_path(run, step)
        extra = load_tensors(file)
        self.method.load_weights(weights)
        try:
            self.optimizer.load_state_dict(extra["optimizer"])
            self.schedule.load_state_dict(extra["schedule"])
            self.fabric.strategy.precision.load_state_dict(extra["scale"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{file}: not of this run ({type(error).__name__})") from error

    def load_newest(self, run: Path) -> int:
        """Take back the newest checkpoint that is whole, warning of broken ones after it.

        Returns:
            Steps done; 0 where no checkpoint was ever completed.

        Raises:
            CheckpointError: There are checkpoints, and none is whole.
        """
        steps = saved_steps(run)
        for step in reversed(steps):
            try:
                self.load(run, step)
            except CheckpointError as error:
                _log.warning("%s; going back to the checkpoint before it", error)
            else:
                return step
        if has_checkpoint(run):
            raise CheckpointError(f"{run}: none of its {len(steps)} checkpoints is whole; start again in another --out")
        return 0


def weights_path(run: Path, step: int) -> Path:
    """Return where the weights after `step` steps are."""
    return run / f"weights_{step:0{_DIGITS}d}.safetensors"


def resume_path(run: Path, step: int) -> Path:
    """Return where the rest of what continuing after `step` steps needs is."""
    return run / f"resume_{step:0{_DIGITS}d}.pt"


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch, whole or not at all; `torch.load(weights_only=True)` reads them."""
    write_durably(path, lambda file: torch.save(dict(content), file))


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what `save_tensors` wrote, after comparing its parts with their checksums, which torch itself does not.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())  # torch packs none
            if packed or archive.testzip() is not None:
                raise zipfile.BadZipFile("another checksum, or packed")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, *_OF_ARCHIVES) as error:
        raise CheckpointError(f"{path}: missing or damaged ({type(error).__name__})") from error
    return content


def has_checkpoint(run: Path) -> bool:
    """Tell whether a checkpoint was completed; half of one is what a kill leaves that came while it was written."""
    return any(is_complete(run, step) for step in saved_steps(run))


def is_complete(run: Path, step: int) -> bool:
    """Tell whether both parts of a checkpoint are there."""
    return weights_path(run, step).exists() and resume_path(run, step).exists()


def saved_steps(run: Path) -> list[int]:
    """Return the steps that have a checkpoint, or a part of one."""
    return sorted({_step_of(file) for file in _checkpoint_files(run)} - {_NO_STEP})


def set_aside(run: Path, step: int) -> None:
    """Rename what checkpoints after `step` have left, which is broken or half, so that nobody takes it for a result.

    What a kill left of one that was being written is deleted.
    """
    for pattern in (".weights_*.safetensors.*.tmp", ".resume_*.pt.*.tmp"):
        for file in run.glob(pattern):
            file.unlink()
    for later in (later for later in saved_steps(run) if later > step):
        for file in (weights_path(run, later), resume_path(run, later)):
            if file.exists():
                file.replace(file.with_name(file.name + _ASIDE))
                _log.warning("%s: set aside as %s; the run goes on after step %d", file, file.name + _ASIDE, step)


def _checkpoint_files(run: Path, suffix: str = "") -> Iterator[Path]:
    for pattern in ("weights_*.safetensors", "resume_*.pt"):
        yield from run.glob(pattern + suffix)


def _step_of(file: Path) -> int:
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else _NO_STEP
