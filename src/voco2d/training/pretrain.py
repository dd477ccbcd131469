"""Pretraining: from a store to a run folder with backbone weights."""

import hashlib
import logging
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from voco2d.config import to_tree
from voco2d.data.cohort import patient_digests
from voco2d.data.pretrain_dataset import PretrainDataset
from voco2d.errors import CheckpointError, NonFiniteLossError
from voco2d.methods.method import CropBatch, StepOutput
from voco2d.methods.registry import METHODS
from voco2d.models.backbones import build_backbone, check_name
from voco2d.models.checkpoint import backbone_state, read_weights
from voco2d.progress import Progress
from voco2d.store.location import Location
from voco2d.store.volume_store import VolumeStore
from voco2d.training.continuation import refuse_other_run
from voco2d.training.initialisation import IMAGENET, RANDOM, read_initialisation
from voco2d.training.monitor import Monitor
from voco2d.training.optim import build_optimizer, build_schedule
from voco2d.training.pretrain_args import MAY_CHANGE, PRESETS, PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState, save_tensors, saved_steps, weights_path
from voco2d.training.run_dir import RunDir
from voco2d.training.trainer import launch

__all__ = ["KIND", "PRESETS", "PretrainArgs", "pretrain"]

KIND = "pretrain"
IN_CHANS = 1

_log = logging.getLogger(__name__)


def pretrain(
    store: Location | str,
    out: Path,
    args: PretrainArgs | None = None,
    resume: bool = False,
    exclude_patients: Collection[str] = (),
) -> Path:
    """Pretrain a backbone without labels and write the run folder.

    The folder holds, besides `RunDir`'s files, `weights_<step>.safetensors` and `resume_<step>.pt`.

    Args:
        store: Made by `voco2d prepare`.
        out: The run folder.
        args: Settings; the `voco2d` preset when None.
        resume: Go on after the newest whole checkpoint of the run in `out`; what follows is what an uninterrupted run
            would have done.
        exclude_patients: Patients that are never shown, above all those that a classifier is validated on.

    Returns:
        The run folder.

    Raises:
        UsageError: A path or setting is wrong, or `out` holds another run.
        StoreError: The store can't be used, or no volume is left.
        CheckpointError: Weights can't be had or read.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    args = args or PretrainArgs()
    check_name(args.backbone)
    volumes = VolumeStore(store)
    dataset = PretrainDataset(volumes, args.method, args.window_hu, args.batch_size, args.seed, exclude_patients)
    inputs = {"store": str(store), "volumes": _fingerprint(volumes, dataset)}
    if resume:
        refuse_other_run(out, args, MAY_CHANGE, {"volumes": inputs["volumes"]}, {})
        if _is_finished(out, args.steps):
            return out
    fabric = launch(args.device, args.precision, args.seed)
    state = _build(args, fabric, continues=resume and bool(saved_steps(out)))
    run = RunDir.create(out, KIND, args, inputs, resume)
    start = state.load_newest(run.path) if resume else 0
    run.truncate_log(start)
    metadata = {
        "kind": KIND,
        "backbone": args.backbone,
        "in_chans": IN_CHANS,
        "window_hu": list(args.window_hu),
        "method": to_tree(args.method),
        "preprocess": to_tree(volumes.preprocess_args),
        "init": args.init,
        "patients_seen": sorted({*patient_digests(dataset.patients), *_seen_before(args, run.path)}),
    }
    _train(state, dataset, run, args, metadata, start)
    return run.path


def _build(args: PretrainArgs, fabric: Fabric, continues: bool) -> TrainingState:
    """Build everything a step changes; a run that is continued gets its weights later."""
    start = read_initialisation(RANDOM if continues else args.init, args.backbone, IN_CHANS)
    backbone = build_backbone(args.backbone, in_chans=IN_CHANS)
    start.apply(backbone)
    method = METHODS[args.method.name](backbone, args.method).to(fabric.device)
    optimizer = build_optimizer(method.parameters(), args.optim)
    return TrainingState(method, optimizer, build_schedule(optimizer, args.optim, args.horizon), fabric)


def _train(
    state: TrainingState,
    dataset: PretrainDataset,
    run: RunDir,
    args: PretrainArgs,
    metadata: Mapping[str, Any],
    start: int,
) -> None:
    """Run the steps after `start`, logging and saving on the way."""
    monitor = Monitor()
    logged, since = start, time.monotonic()
    with Progress("pretraining", args.steps, done=start) as progress:
        for step, batch in enumerate(dataset.batches(start, args.steps, state.fabric.device), start + 1):
            rate = float(state.schedule.get_last_lr()[0])
            monitor.watch(*_step(state, batch, run, args, step))
            note = ""
            saves = step % args.checkpoint_every == 0 or step == args.steps
            if saves or step % args.log_every == 0:
                watched = monitor.summary(step)
                seconds = (time.monotonic() - since) / (step - logged)
                distance = state.method.teacher_distance()
                run.log({"step": step, **watched, "lr": rate, "teacher_distance": distance, "seconds": seconds})
                logged, since = step, time.monotonic()
                note = f"loss {watched['loss']:.3f}, localisation {watched['localisation_accuracy']:.2f}"
            if saves:
                state.save(run.path, step, metadata, args.keep_checkpoints)
            progress.advance(note=note)


def _step(
    state: TrainingState, batch: CropBatch, run: RunDir, args: PretrainArgs, step: int
) -> tuple[StepOutput, Tensor]:
    """Do one optimizer step; return what the method made of the batch, and the gradient's norm before clipping."""
    fabric, optimizer = state.fabric, state.optimizer
    with fabric.autocast():
        output: StepOutput = state.method(batch)
    _refuse_non_finite(output, batch, state, run, step)
    fabric.backward(output.loss)
    limit = args.optim.grad_clip or math.inf
    norm = fabric.clip_gradients(state.method, optimizer, max_norm=limit, error_if_nonfinite=False)
    assert norm is not None
    fabric.strategy.optimizer_step(optimizer)
    optimizer.zero_grad()
    state.schedule.step()
    state.method.after_step(step / args.horizon)
    return output, norm


def _refuse_non_finite(output: StepOutput, batch: CropBatch, state: TrainingState, run: RunDir, step: int) -> None:
    """Stop at a loss that is NaN or infinite, and leave what is needed to look into it.

    Raises:
        NonFiniteLossError: With the step, the terms and the file.
    """
    values = dict(zip(output.terms, torch.stack(list(output.terms.values())).tolist(), strict=True))
    if all(math.isfinite(value) for value in values.values()):
        return
    file = run.path / f"nonfinite_{step:08d}.pt"
    save_tensors(file, {"step": step, "terms": values, "batch": vars(batch), "weights": state.method.weights()})
    terms = ", ".join(f"{name} {value}" for name, value in values.items())
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite ({terms}); the batch and weights are in {file}; try a lower optim.lr or "
        "precision=fp32, and continue with --resume"
    )


def _seen_before(args: PretrainArgs, run: Path) -> list[str]:
    """Return the digests of the patients that the checkpoint was trained on which this run starts from, if any."""
    if args.init in (RANDOM, IMAGENET):
        return []
    for step in reversed(saved_steps(run)):  # continued: its own checkpoints know, and the start may be gone
        try:
            return list(read_weights(weights_path(run, step))[1].get("patients_seen") or ())
        except CheckpointError:
            continue
    metadata = backbone_state(Path(args.init), args.backbone)[1]
    return list(metadata.get("patients_seen") or ())


def _is_finished(out: Path, steps: int) -> bool:
    """Tell whether the run's newest checkpoint has all steps, and say so."""
    saved = saved_steps(out)
    if not saved or saved[-1] < steps:
        return False
    try:
        read_weights(weights_path(out, saved[-1]))
    except CheckpointError:
        return False
    _log.info("%s is finished: %d of %d steps; nothing to do, unless you raise steps", out, saved[-1], steps)
    return True


def _fingerprint(store: VolumeStore, dataset: PretrainDataset) -> str:
    """Name the volumes that are shown, in their order."""
    keys = "\n".join(store.index["key"].iloc[dataset.kept].astype(str))
    return f"{len(dataset)} ({hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()})"
