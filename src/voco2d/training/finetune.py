"""Fine-tunes the injury classifier on folds of labelled patients, or on a fixed split, and collects predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from lightning_fabric import Fabric

from voco2d.config import to_tree
from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.cohort import Cohort, patient_digests, read_labels
from voco2d.data.cohort_parts import Part
from voco2d.models.classifier import CLASSIFIER_KIND, ClassifierArgs, class_probabilities, load_classifier
from voco2d.preprocessing.readout import check_readout
from voco2d.progress import Progress
from voco2d.store.location import Location
from voco2d.store.settings import StoreSettings
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import TARGETS
from voco2d.training.assignment import assign, is_transductive, refuse_seen
from voco2d.training.continuation import refuse_other_run
from voco2d.training.finetune_args import MAY_CHANGE
from voco2d.training.finetune_args import FinetuneArgs as FinetuneArgs
from voco2d.training.fold import FoldTraining, predict_rows, resume_path
from voco2d.training.fold_plan import FoldPlan
from voco2d.training.initialisation import Initialisation, read_initialisation
from voco2d.training.out_of_fold import (
    TEST_NAME,
    prediction_table,
    read_finished,
    weights_path,
    write_predictions,
    write_scores,
)
from voco2d.training.run_dir import RunDir, write_text
from voco2d.training.trainer import launch

KIND = "finetune"
_CHANNELS = 1


def finetune(
    store: Location | str,
    labels: Path,
    init: str,
    out: Path,
    args: FinetuneArgs | None = None,
    resume: bool = False,
    folds: pd.Series | None = None,
    splits: Mapping[str, str] | None = None,
) -> Path:
    """Train one classifier a fold, or one on a fixed split, write the run folder and return it.

    Besides `RunDir`'s files it holds `fold_<k>.safetensors`, each the epoch with its fold's best validation RSNA score,
    `folds.csv`, `labels.csv` (the patients used), `oof_predictions.csv`, `scores.json`. Since the epoch is chosen on
    the patients it is scored on, the out-of-fold scores are slightly too good.

    Folds depend on patients, labels and seed alone, so that runs that start otherwise can be compared. A checkpoint
    that has seen patients of a fold to be trained is refused unless `args.transductive`, which `scores.json` tells.

    With `splits` there is one model, `fold_0.safetensors`. `oof_predictions.csv` and `scores.json` are those of the
    patients of `validation`, on whom the epoch is chosen; without any, the last epoch is kept and nothing is
    scored. `predictions_test.csv` holds those of `test`, who need no labels; `splits.csv` says who was in which part.

    Args:
        store: Made by `voco2d prepare`.
        labels: CSV as RSNA 2023's `train.csv`.
        init: `random`, `imagenet`, or a checkpoint's path.
        out: The run folder.
        args: Settings; the defaults when None.
        resume: Keep the finished folds of the run in `out` and go on after the last finished epoch.
        folds: Fold 0…`args.folds` − 1 by patient, as `data.cohort_folds` makes them; by default they are made here.
        splits: Patient → `train`, `validation` or `test`, instead of folds.

    Raises:
        UsageError: A path or setting is wrong, or `out` holds another run.
        StoreError: The store can't be used.
        LabelError: The label table, folds or splits can't be used, or the checkpoint has seen validation patients.
        CheckpointError: The weights can't be had or belong to another architecture.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    args = args or FinetuneArgs()
    volumes = VolumeStore(store)
    check_readout(args.readout, volumes.preprocess_args.size)
    start = read_initialisation(init, args.backbone, _CHANNELS)
    args = replace(args, backbone=start.backbone)
    assignment = assign(args, volumes.index, read_labels(labels), folds, splits)
    refuse_seen(start, assignment.parts, args.transductive)
    cohort, tables = assignment.cohort, assignment.tables
    same = {"init": init, "volumes": volumes.fingerprint(cohort.series["position"].tolist())}
    if resume:
        refuse_other_run(out, args, MAY_CHANGE, same, tables)
    fabric = launch(args.device, args.precision, args.seed)
    dataset = ClassifyDataset(volumes, cohort, args.readout, args.augment, args.preload_mb)
    plans = [_plan(part, args, cohort, _metadata(args, volumes.settings, part, start)) for part in assignment.parts]
    plans[0].build(start)  # what can't be built must not leave a folder behind that blocks the corrected command
    run = RunDir.create(out, KIND, args, {"store": str(store), "labels": str(labels), **same}, resume)
    for name, text in tables.items():
        write_text(run.path / name, text)
    finished = _train_folds(plans, start, fabric, dataset, run, read_finished(run, assignment.held_out))
    tested = _test(plans, fabric, dataset, run)
    graded = {patient for patient, number in assignment.held_out.items() if number in finished} | set(tested)
    about = {"init": init, "fraction": args.fraction, "transductive": is_transductive(start, graded)}
    write_scores(run, finished, cohort.labels, about)
    return run.path


def _plan(part: Part, args: FinetuneArgs, cohort: Cohort, metadata: Mapping[str, Any]) -> FoldPlan:
    return FoldPlan(
        number=part.number,
        train=part.rows(cohort, part.train),
        held_out=part.rows(cohort, part.held_out),
        test=part.rows(cohort, part.test),
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


def _test(plans: Sequence[FoldPlan], fabric: Fabric, dataset: ClassifyDataset, run: RunDir) -> list[str]:
    """Grade the test patients with the finished model, once, and return them."""
    tested = [plan for plan in plans if len(plan.test)]
    for plan in tested:
        model, _ = load_classifier(weights_path(run.path, plan.number))
        logits = predict_rows(fabric.setup_module(model), fabric, dataset, plan.test, plan.batch_size)
        table = prediction_table(dataset.cohort, plan.test, class_probabilities(logits).numpy())
        write_text(run.path / TEST_NAME, table.to_csv(index=False))
    return [patient for plan in tested for patient in dataset.cohort.series["patient_id"].iloc[plan.test].unique()]


def _classifier_args(args: FinetuneArgs) -> ClassifierArgs:
    assert args.backbone is not None
    return ClassifierArgs(args.backbone, _CHANNELS, args.aggregator, args.hidden, args.dropout)


def _metadata(args: FinetuneArgs, store: StoreSettings, part: Part, start: Initialisation) -> dict[str, Any]:
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
            {*patient_digests(part.train | part.held_out), *start.metadata.get("patients_seen", ())}
        ),
    }
