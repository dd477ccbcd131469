"""Fine-tunes the injury classifier on folds of labelled patients, or on a fixed split, and collects predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from lightning_fabric import Fabric

from voco2d.config import to_tree
from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.cohort import read_labels
from voco2d.data.slice_labels import read_slice_labels
from voco2d.models.classifier import class_probabilities, load_classifier
from voco2d.models.cpu_memory import keep_freed_memory
from voco2d.preprocessing.readout import check_readout
from voco2d.progress import Progress
from voco2d.store.location import Location
from voco2d.store.volume_store import VolumeStore
from voco2d.training.assignment import Assignment, assign, is_transductive, refuse_seen
from voco2d.training.calibration_fit import write_calibration
from voco2d.training.continuation import recorded_inputs, refuse_other_run
from voco2d.training.fast_path import memory_given_back
from voco2d.training.finetune_args import MAY_CHANGE
from voco2d.training.finetune_args import FinetuneArgs as FinetuneArgs
from voco2d.training.fold import FoldTraining, resume_path
from voco2d.training.fold_plan import FoldPlan, plan_fold
from voco2d.training.fold_step import predict_rows
from voco2d.training.initialisation import Initialisation, read_initialisation
from voco2d.training.out_of_fold import (
    TEST_NAME,
    describe_tables,
    prediction_table,
    read_finished,
    weights_path,
    write_predictions,
    write_scores,
)
from voco2d.training.run_dir import RunDir, write_text
from voco2d.training.trainer import launch

KIND = "finetune"


def finetune(  # long: two thirds are its arguments and what is said of them
    store: Location | str,
    labels: Path,
    init: str,
    out: Path,
    args: FinetuneArgs | None = None,
    resume: bool = False,
    folds: pd.Series | None = None,
    splits: Mapping[str, str] | None = None,
    slice_labels: Path | None = None,
    slice_organs: Path | None = None,
) -> Path:
    """Train one classifier a fold, or one on a fixed split, write the run folder and return it.

    docs/finetuning.md tells what the folder holds. Folds depend on patients, labels and seed alone, so that runs that
    start otherwise can be compared. A checkpoint that has seen patients who are graded is refused unless
    `args.transductive`, which all tables tell.

    Args:
        store: Made by `voco2d prepare`.
        labels: CSV as RSNA 2023's `train.csv`, or with the columns of `args.targets`.
        init: `random`, `imagenet`, or a checkpoint's path.
        out: The run folder.
        args: Settings; the defaults when None.
        resume: Keep the finished folds of the run in `out` and go on after the last finished epoch.
        folds: Fold 0…`args.folds` − 1 by patient, as `data.cohort_folds` makes them; by default they are made here.
        splits: Patient → `train`, `validation` or `test`, instead of folds: one model, whose epoch is chosen on
            `validation`, and `predictions_test.csv` with those of `test`, who need no labels.
        slice_labels: CSV as RSNA 2023's `image_level_labels.csv`: adds a loss on slices, see `SliceLossArgs`.
        slice_organs: CSV that says how visible organs are on slices, see `read_visibility`: adds to that loss.

    Raises:
        UsageError: A path or setting is wrong, or `out` holds another run.
        StoreError: The store can't be used.
        LabelError: A table, folds or splits can't be used, or the checkpoint has seen patients who are graded.
        CheckpointError: The weights can't be had or belong to another architecture.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    args = args or FinetuneArgs()
    volumes = VolumeStore(store)
    check_readout(args.readout, volumes.preprocess_args.size)
    start = read_initialisation(init, args.backbone, args.readout.channels)
    args = replace(args, backbone=start.backbone)
    start.compare(args.readout.window, to_tree(volumes.preprocess_args))
    assignment = assign(args, volumes.index, read_labels(labels, args.target_set), folds, splits)
    refuse_seen(start, assignment.parts, args.transductive)
    cohort = assignment.cohort
    known = read_slice_labels(volumes.index, volumes.preprocess_args, cohort, slice_labels, slice_organs)
    told = recorded_inputs(out).get("labels") if labels.parent == out else None  # the run's own copy
    same = {"init": init, "volumes": volumes.fingerprint(cohort.series["position"].tolist())}
    same |= {"slice_labels": str(slice_labels), "slice_organs": str(slice_organs)}
    if resume:
        refuse_other_run(out, args, MAY_CHANGE, same, assignment.tables)
    fabric = launch(args.device, args.precision, args.seed)
    dataset = ClassifyDataset(volumes, cohort, args.readout, args.augment, args.preload_mb, known)
    names = () if known is None else known.names
    plans = [plan_fold(part, args, cohort, volumes.settings, start, names) for part in assignment.parts]
    plans[0].build(start)  # what can't be built must not leave a folder behind that blocks the corrected command
    run = RunDir.create(out, KIND, args, {"store": str(store), "labels": told or str(labels), **same}, resume)
    for name, text in assignment.tables.items():
        write_text(run.path / name, text)
    with memory_given_back():
        _train_and_grade(plans, start, fabric, dataset, run, assignment)
    return run.path


def _train_and_grade(
    plans: Sequence[FoldPlan],
    start: Initialisation,
    fabric: Fabric,
    dataset: ClassifyDataset,
    run: RunDir,
    assignment: Assignment,
) -> None:
    """Train what isn't finished, grade the test patients, and write tables, scores and what they are."""
    if fabric.device.type == "cpu":
        keep_freed_memory()
    args = plans[0].args
    finished = _train_folds(
        plans, start, fabric, dataset, run, read_finished(run, assignment.held_out, args.target_set)
    )
    tested = _test(plans, fabric, dataset, run)
    graded = {patient for patient, number in assignment.held_out.items() if number in finished} | set(tested)
    about = {
        "init": start.origin,
        "transductive": is_transductive(start, graded),
        "fraction": args.fraction,
        "select": args.select,
        "test_flips": list(args.test_flips),
    }
    write_scores(run, finished, dataset.cohort.labels, about, args.target_set)
    write_calibration(run, pd.concat(finished.values(), ignore_index=True), dataset.cohort.labels, args.target_set)
    describe_tables(run, about)


def _train_folds(
    plans: Sequence[FoldPlan],
    start: Initialisation,
    fabric: Fabric,
    dataset: ClassifyDataset,
    run: RunDir,
    finished: dict[int, pd.DataFrame],
) -> dict[int, pd.DataFrame]:
    """Train the folds that aren't in `finished`, and return the predictions of all."""
    steps = {plan.number: plan.args.epochs * plan.steps_per_epoch for plan in plans}
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
        graded, args = fabric.setup_module(model), plan.args
        logits = predict_rows(graded, fabric, dataset, plan.test, args.batch_size, args.test_flips, args.target_set)
        table = prediction_table(dataset.cohort, plan.test, class_probabilities(logits, args.target_set).numpy())
        write_text(run.path / TEST_NAME, table.to_csv(index=False))
    return [patient for plan in tested for patient in dataset.cohort.series["patient_id"].iloc[plan.test].unique()]
