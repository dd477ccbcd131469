"""Pretraining: from a store to a run folder with backbone weights."""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from lightning_fabric import Fabric

from voco2d.config import Tree, to_tree
from voco2d.data.cohort import patient_digests
from voco2d.data.datasets import build_dataset
from voco2d.data.pretrain_dataset import DataArgs, Share
from voco2d.errors import CheckpointError
from voco2d.memory import enough_memory
from voco2d.methods.method import Method
from voco2d.methods.registry import build_method
from voco2d.models.backbones import build_backbone, check_name
from voco2d.models.checkpoint import backbone_state, read_weights
from voco2d.models.shared_norm import share_norms
from voco2d.store.location import Location
from voco2d.store.volume_store import VolumeStore
from voco2d.training.alarm import Alarm
from voco2d.training.continuation import refuse_other_run
from voco2d.training.fast_path import memory_given_back, take_fast_path
from voco2d.training.initialisation import IMAGENET, RANDOM, read_initialisation
from voco2d.training.memory_advice import for_networks
from voco2d.training.optim import build_optimizer, build_schedule
from voco2d.training.pretrain_args import MAY_CHANGE, PRESETS, PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState, has_checkpoint, saved_steps, set_aside, weights_path
from voco2d.training.pretrain_loop import PretrainLoop
from voco2d.training.probe import Probe
from voco2d.training.processes import (
    all_do,
    all_there,
    first_does,
    is_first,
    is_shared,
    same_everywhere,
    same_start,
)
from voco2d.training.run_dir import RunDir, read_config
from voco2d.training.trainer import launch
from voco2d.training.writers import check_writers, open_writers

__all__ = ["KIND", "PRESETS", "PretrainArgs", "pretrain"]

KIND = "pretrain"
IN_CHANS = 1

_log = logging.getLogger(__name__)


def pretrain(  # long: half of it is what is said of its arguments, the rest the order of a run
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
        LabelError: The table of the probe can't be used.
        CheckpointError: Weights can't be had or read.
        NonFiniteLossError: The loss became NaN or infinite.
        DeviceMemoryError: Memory has run out; the message says which setting lowers it, and to what.
        TrainingStoppedError: The alarm was asked to stop a run that shows a symptom.
    """
    args = args or PretrainArgs()
    check_name(args.backbone)
    check_writers(args.writers)
    volumes = VolumeStore(store)
    dataset = build_dataset(volumes, args.method, _data_args(args), exclude_patients)
    prepared = json.dumps(to_tree(volumes.preprocess_args), sort_keys=True)
    kept = [int(volume) for volume in dataset.kept]
    inputs = {"store": str(store), "preprocess": prepared, "volumes": volumes.fingerprint(kept)}
    if resume:
        must_match = {name: inputs[name] for name in ("preprocess", "volumes")}
        refuse_other_run(out, args, MAY_CHANGE, must_match, {})
        _tell_longer_schedule(out, args)
        if _is_finished(out, args.steps):
            return out
    probe = _build_probe(volumes, args, exclude_patients)
    fabric = launch(args.device, args.precision, args.seed, args.devices, args.nodes)
    all_do(lambda: dataset.take(Share(fabric.global_rank, fabric.world_size)))
    state = _build(args, fabric, to_tree(volumes.preprocess_args), continues=resume and has_checkpoint(out))
    first_does(lambda: _open(out, args, inputs, resume))
    run = RunDir(out)
    start = same_everywhere(all_do(lambda: _load(state, out, args)), "the checkpoint they read") if resume else 0
    first_does(lambda: set_aside(run.path, start))
    first_does(lambda: run.truncate_log(start))
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
    alarm = Alarm(args.alarm, args.optim.warmup_steps, args.optim.lr)
    alarm.replay(run.read_log(start - alarm.reach))
    writers = args.writers if is_first() else ()
    with memory_given_back(), all_there(), open_writers(writers, run.path, to_tree(args), start) as write:
        PretrainLoop(state, dataset, run, args, metadata, alarm, probe, write).run(start)
    return run.path


def _data_args(args: PretrainArgs) -> DataArgs:
    return DataArgs(args.window_hu, args.batch_size, args.seed, args.method.shuffle, args.residency)


def _build_probe(volumes: VolumeStore, args: PretrainArgs, exclude_patients: Collection[str]) -> Probe | None:
    if args.probe.labels is None:
        return None
    return Probe(volumes, args.probe, args.window_hu, exclude_patients, args.seed)


def _open(out: Path, args: PretrainArgs, inputs: Mapping[str, str], resume: bool) -> None:
    """Make or open the run folder."""
    RunDir.create(out, KIND, args, inputs, resume)


def _build(args: PretrainArgs, fabric: Fabric, prepared: Tree, continues: bool) -> TrainingState:
    """Build everything a step changes; a run that is continued gets its weights later."""
    method = all_do(lambda: _networks(args, fabric, prepared, continues))
    same_start(method)
    if is_shared():
        share_norms(method)
    if args.compile:
        for network in method.networks().values():
            if hasattr(network, "backbone"):
                network.get_submodule("backbone").compile()
    optimizer = build_optimizer(method.parameters(), args.optim)
    return TrainingState(method, optimizer, build_schedule(optimizer, args.optim, args.horizon), fabric)


def _networks(args: PretrainArgs, fabric: Fabric, prepared: Tree, continues: bool) -> Method:
    with enough_memory("while the networks were built", for_networks(args)):
        start = read_initialisation(RANDOM if continues else args.init, args.backbone, IN_CHANS)
        backbone = build_backbone(args.backbone, in_chans=IN_CHANS)
        start.apply(backbone)
        start.compare(args.window_hu, prepared)
        take_fast_path(backbone, args, fabric.device)
        return build_method(backbone, args.method).to(fabric.device)


def _load(state: TrainingState, out: Path, args: PretrainArgs) -> int:
    with enough_memory("while the checkpoint was read", for_networks(args)):
        return state.load_newest(out)


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


def _tell_longer_schedule(out: Path, args: PretrainArgs) -> None:
    """Warn where other `steps` change a schedule that is under way."""
    before = (read_config(out) or {}).get("steps", args.steps)
    if args.schedule_steps is None and before != args.steps and saved_steps(out):
        _log.warning(
            "the learning rate and the teacher's momentum now follow a schedule of %d steps, %d before; "
            "set schedule_steps when a run begins to keep one", args.steps, before,
        )  # fmt: skip


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
