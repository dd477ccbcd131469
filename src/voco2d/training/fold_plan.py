"""What one fold's training is made of, and the network, optimizer and schedule that follow from it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from voco2d.config import to_tree
from voco2d.data.cohort import Cohort, patient_digests
from voco2d.data.cohort_parts import Part
from voco2d.errors import ConfigError
from voco2d.models.classifier import CLASS_SHARES, CLASSIFIER_KIND, Classifier, ClassifierArgs
from voco2d.models.fast_cpu import accelerate_cpu
from voco2d.store.settings import StoreSettings
from voco2d.target_block import described_targets
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.initialisation import Initialisation
from voco2d.training.optim import build_optimizer, build_schedule
from voco2d.training.tuning import tune


@dataclass(frozen=True)
class FoldPlan:
    """What one fold's training is made of.

    Args:
        number: The fold; with the seed and the epoch it decides every random draw.
        train: Rows of `Cohort.series` to learn from.
        held_out: Rows of `Cohort.series` to validate on; without any, the last epoch is kept.
        test: Rows of `Cohort.series` to grade at the end.
        args: Settings of the run.
        classifier: Architecture.
        metadata: What the weights file tells about them, besides the fold's results.
    """

    number: int
    train: Int64[np.ndarray, " train"]
    held_out: Int64[np.ndarray, " held_out"]
    test: Int64[np.ndarray, " test"]
    args: FinetuneArgs
    classifier: ClassifierArgs
    metadata: Mapping[str, Any]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.train) // self.args.batch_size)

    def build(self, start: Initialisation) -> tuple[Classifier, Optimizer, LambdaLR]:
        """Build the network with its backbone at `start`, the optimizer and the schedule.

        Raises:
            ConfigError: The optimizer can't have these settings, the backbone has fewer stages than are to be frozen,
                or there is no such aggregator.
            UsageError: `fast_cpu` is on and numba isn't installed.
            CheckpointError: The backbone of `start` is another one.
        """
        optim = self.args.optim
        model = Classifier(self.classifier, targets=self.args.target_set)
        start.apply(model.backbone)
        if self.args.fast_cpu:
            accelerate_cpu(model.backbone)
        try:
            optimizer = build_optimizer(tune(model, self.args.tuning, optim.lr), optim)
        except ValueError as error:  # torch's own checks
            raise ConfigError(f"optim: {error}; change that setting") from error
        return model, optimizer, build_schedule(optimizer, optim, self.args.epochs * self.steps_per_epoch)


def plan_fold(
    part: Part,
    args: FinetuneArgs,
    cohort: Cohort,
    settings: StoreSettings,
    start: Initialisation,
    slice_targets: Sequence[str] = (),
) -> FoldPlan:
    """Plan the training of one part of a cohort.

    Args:
        part: Its patients.
        args: Settings of the run, which name the backbone.
        cohort: All patients.
        settings: How the store was prepared.
        start: Where the backbone starts.
        slice_targets: What is told of slices, by name.
    """
    classifier = _classifier_args(args, slice_targets)
    seen = {*patient_digests(part.train | part.held_out), *start.metadata.get("patients_seen", ())}
    metadata = {
        "kind": CLASSIFIER_KIND,
        "backbone": classifier.backbone,
        "in_chans": classifier.in_chans,
        "classifier": to_tree(classifier),
        "preprocess": to_tree(settings.preprocess),
        "read": to_tree(settings.read),
        "readout": to_tree(args.readout),
        "test_flips": list(args.test_flips),
        "targets": described_targets(args.target_set),
        "init": start.origin,
        "fraction": args.fraction,
        CLASS_SHARES: _class_shares(cohort, part.train),
        "patients_seen": sorted(seen),
    }
    return FoldPlan(
        number=part.number,
        train=part.rows(cohort, part.train),
        held_out=part.rows(cohort, part.held_out),
        test=part.rows(cohort, part.test),
        args=args,
        classifier=classifier,
        metadata=metadata,
    )


def _class_shares(cohort: Cohort, patients: Collection[str]) -> dict[str, float]:
    """Return the share of each class among patients who have a label, what a prediction is compared with."""
    rows = cohort.labels[cohort.labels["patient_id"].isin(list(patients))]
    means = rows[list(cohort.targets.columns)].mean().fillna(0)
    return {str(column): round(float(share), 6) for column, share in means.items()}


def _classifier_args(args: FinetuneArgs, slice_targets: Sequence[str]) -> ClassifierArgs:
    assert args.backbone is not None
    return ClassifierArgs(
        backbone=args.backbone,
        in_chans=args.readout.channels,
        aggregator=args.aggregator,
        hidden=args.hidden,
        dropout=args.dropout,
        pooling=args.pooling,
        bidirectional=args.bidirectional,
        layers=args.layers,
        slice_targets=tuple(slice_targets),
    )
