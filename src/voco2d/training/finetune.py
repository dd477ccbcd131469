"""Fine-tunes the injury classifier on folds of labelled patients and collects its out-of-fold predictions."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric

from voco2d.config import to_tree
from voco2d.data.augment import AugmentArgs
from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.cohort import Cohort, join_labels, patient_digests, read_labels, saw_patients
from voco2d.errors import ConfigError
from voco2d.losses.injury import InjuryLossArgs
from voco2d.models.aggregators import AGGREGATORS
from voco2d.models.classifier import CLASSIFIER_KIND, ClassifierArgs
from voco2d.preprocessing.readout import ReadoutArgs, check_readout
from voco2d.progress import Progress
from voco2d.store.location import Location
from voco2d.store.settings import StoreSettings
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import TARGETS
from voco2d.training.continuation import refuse_other_run
from voco2d.training.fold import FoldTraining, resume_path
from voco2d.training.fold_plan import FoldPlan, split_patients
from voco2d.training.initialisation import Initialisation, read_initialisation
from voco2d.training.optim import OptimArgs
from voco2d.training.out_of_fold import cohort_tables, read_finished, write_predictions, write_scores
from voco2d.training.run_dir import RunDir, write_text
from voco2d.training.trainer import launch

KIND = "finetune"
_CHANNELS = 1
_MAY_CHANGE = ("device", "run_folds", "fold", "preload_mb")
"""Keys that a continued run may have otherwise than before."""
_SEEDS = 2**32
"""NumPy's legacy generator, which the splitter of folds uses, takes seeds below this."""

_log = logging.getLogger(__name__)


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
        if self.aggregator not in AGGREGATORS:
            raise ConfigError(f"aggregator={self.aggregator} is not known; choose {', '.join(AGGREGATORS)}")


def finetune(
    store: Location | str,
    labels: Path,
    init: str,
    out: Path,
    args: FinetuneArgs | None = None,
    resume: bool = False,
    folds: pd.Series | None = None,
) -> Path:
    """Train one classifier a fold, write the run folder and return it.

    Besides `RunDir`'s files it holds `fold_<k>.safetensors`, each the epoch with its fold's best validation RSNA score,
    `folds.csv`, `labels.csv` (the patients used), `oof_predictions.csv`, `scores.json`. Since the epoch is chosen on
    the patients it is scored on, the out-of-fold scores are slightly too good.

    Folds depend on patients, labels and seed alone, so that runs that start otherwise can be compared. Where `folds`
    are given, a checkpoint that has seen patients of a fold to be trained is refused; otherwise `scores.json` says so.

    Args:
        store: Made by `voco2d prepare`.
        labels: CSV as RSNA 2023's `train.csv`.
        init: `random`, `imagenet`, or a checkpoint's path.
        out: The run folder.
        args: Settings; the defaults when None.
        resume: Keep the finished folds of the run in `out` and go on after the last finished epoch.
        folds: Fold 0…`args.folds` − 1 by patient, as `data.cohort_folds` makes them; by default they are made here.

    Raises:
        UsageError: A path or setting is wrong, or `out` holds another run.
        StoreError: The store can't be used.
        LabelError: The label table or the folds can't be used, or the checkpoint has seen validation patients.
        CheckpointError: The weights can't be had or belong to another architecture.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    args = args or FinetuneArgs()
    volumes = VolumeStore(store)
    check_readout(args.readout, volumes.preprocess_args.size)
    cohort = join_labels(volumes.index, read_labels(labels))
    start = read_initialisation(init, args.backbone, _CHANNELS)
    numbers = range(args.run_folds or args.folds) if args.fold is None else [args.fold]
    folds = split_patients(cohort.labels, args.folds, args.seed, folds, start, numbers)
    args = replace(args, backbone=start.backbone)
    tables = cohort_tables(cohort, folds)
    same = {"init": init, "volumes": volumes.fingerprint(cohort.series["position"].tolist())}
    if resume:
        refuse_other_run(out, args, _MAY_CHANGE, same, tables)
    fabric = launch(args.device, args.precision, args.seed)
    dataset = ClassifyDataset(volumes, cohort, args.readout, args.augment, args.preload_mb)
    metadata = _metadata(args, volumes.settings, cohort, start)
    plans = [_plan(number, args, cohort, folds, metadata) for number in numbers]
    plans[0].build(start)  # what can't be built must not leave a folder behind that blocks the corrected command
    run = RunDir.create(out, KIND, args, {"store": str(store), "labels": str(labels), **same}, resume)
    for name, text in tables.items():
        write_text(run.path / name, text)
    earlier = read_finished(run, folds)
    scored = {*earlier, *(plan.number for plan in plans)}
    transductive = _is_transductive(start, folds.index[folds.isin(scored)])
    finished = _train_folds(plans, start, fabric, dataset, run, earlier)
    write_scores(run, finished, cohort.labels, {"init": init, "transductive": transductive})
    return run.path


def _plan(number: int, args: FinetuneArgs, cohort: Cohort, folds: pd.Series, metadata: Mapping[str, Any]) -> FoldPlan:
    held_out = (cohort.series["patient_id"].map(folds) == number).to_numpy()
    return FoldPlan(
        number=number,
        train=np.flatnonzero(~held_out),
        held_out=np.flatnonzero(held_out),
        epochs=args.epochs,
        batch_size=args.batch_size,
        seed=args.seed,
        classifier=_classifier_args(args),
        optim=args.optim,
        loss=args.loss,
        metadata=metadata,
    )


def _train_folds(
    plans: Sequence[FoldPlan],
    start: Initialisation,
    fabric: Fabric,
    dataset: ClassifyDataset,
    run: RunDir,
    finished: dict[int, pd.DataFrame],
) -> dict[int, pd.DataFrame]:
    """Train the folds that aren't in `finished`, and return the predictions of all."""
    steps = {plan.number: plan.epochs * plan.steps_per_epoch for plan in plans}
    done = sum(steps[number] for number in steps if number in finished)
    with Progress("fine-tuning", sum(steps.values()), done) as progress:
        for plan in plans:
            if plan.number in finished:
                continue
            training = FoldTraining(plan, start, fabric, dataset, run)
            training.resume()
            progress.advance(training.done * plan.steps_per_epoch)
            table = training.run(progress)
            finished = {**finished, plan.number: table}
            write_predictions(run, finished)
            resume_path(run.path, plan.number).unlink(missing_ok=True)
    return finished


def _classifier_args(args: FinetuneArgs) -> ClassifierArgs:
    assert args.backbone is not None
    return ClassifierArgs(args.backbone, _CHANNELS, args.aggregator, args.hidden, args.dropout)


def _metadata(args: FinetuneArgs, store: StoreSettings, cohort: Cohort, start: Initialisation) -> dict[str, Any]:
    """Describe what every fold's weights share; `Predictor` and a later run that starts from them read it."""
    return {
        "kind": CLASSIFIER_KIND,
        "backbone": args.backbone,
        "in_chans": _CHANNELS,
        "classifier": to_tree(_classifier_args(args)),
        "preprocess": to_tree(store.preprocess),
        "read": to_tree(store.read),
        "readout": to_tree(args.readout),
        "targets": {name: list(target.classes) for name, target in TARGETS.items()},
        "init": start.origin,
        "patients_seen": sorted(
            {*patient_digests(cohort.labels["patient_id"]), *start.metadata.get("patients_seen", ())}
        ),
    }


def _is_transductive(start: Initialisation, held_out: Iterable[str]) -> bool | None:
    """Tell, and warn, whether the backbone has seen patients it is validated on; None where it can't be known."""
    if not start.is_checkpoint:
        return False
    seen = saw_patients(start.metadata, held_out)
    if seen is None:
        _log.warning("%s doesn't say which patients it has seen; validation patients may be among them", start.origin)
    elif seen:
        _log.warning(
            "%s has seen validation patients, so scores are transductive; pretrain with --exclude to keep them out",
            start.origin,
        )
    return seen
