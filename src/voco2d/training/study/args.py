"""Configuration of a study: who, which arms, how many labels, how many seeds, and how it is analysed."""

from dataclasses import dataclass, field, replace
from typing import Literal

from voco2d.data.phantom import PhantomArgs
from voco2d.errors import ConfigError
from voco2d.evaluation.study_contests import AnalysisArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.training.finetune import FinetuneArgs
from voco2d.training.initialisation import IMAGENET, RANDOM
from voco2d.training.pretrain_args import PretrainArgs

UNLABELED, TRAIN, VALIDATION, TEST = "unlabeled", "train", "validation", "test"
ROLES = (UNLABELED, TRAIN, VALIDATION, TEST)
"""What a patient is there for, in each split."""
ENRICHED, PLAIN = "enriched", "plain"


@dataclass(frozen=True)
class EnrichedShares:
    """Share of the phantoms of each role who are injured far more often than RSNA 2023's, 0…1.

    The others are injured as often as those, see `PhantomArgs.enriched`.
    """

    unlabeled: float = 0.0
    train: float = 0.0
    validation: float = 0.0
    test: float = 0.0

    def __post_init__(self) -> None:
        for role in ROLES:
            if not 0 <= getattr(self, role) <= 1:
                raise ConfigError(f"cohort.phantom.enriched.{role}={getattr(self, role)}: must lie in 0…1")


@dataclass(frozen=True)
class PhantomRecipe:
    """Phantom patients that the study makes for itself.

    Args:
        seed: Of the patients.
        unlabeled: Patients whose labels nobody sees.
        train: Patients whose labels are learnt from, at a fraction of 1.
        validation: Patients on whom the epoch is chosen; 0 keeps the last epoch.
        test: Patients who are graded at the end.
        enriched: Share of each role's patients who are injured more often.
        draw: How patients are drawn; `enriched` and `first_patient` follow from the role.
        preprocess: How their scans are prepared.
        keep_scans: Whether the DICOM files stay once the store is made.
        slice_labels: Whether the classifiers also learn which slices show an injury, as far as the cohort tells it.
    """

    seed: int = 0
    unlabeled: int = 600
    train: int = 200
    validation: int = 0
    test: int = 400
    enriched: EnrichedShares = field(default_factory=EnrichedShares)
    draw: PhantomArgs = field(default_factory=lambda: PhantomArgs(masks=False))
    preprocess: PreprocessArgs = field(default_factory=PreprocessArgs)
    keep_scans: bool = False
    slice_labels: bool = False

    def __post_init__(self) -> None:
        for role, low in ((UNLABELED, 0), (TRAIN, 1), (VALIDATION, 0), (TEST, 1)):
            if getattr(self, role) < low:
                raise ConfigError(f"cohort.phantom.{role}={getattr(self, role)}: must be at least {low}")

    def groups(self) -> list["PhantomGroup"]:
        """List the groups of patients that are drawn alike, empty ones left out."""
        listed: list[PhantomGroup] = []
        first = 0
        for role in ROLES:
            patients = getattr(self, role)
            enriched = round(patients * getattr(self.enriched, role))
            for kind, count in ((ENRICHED, enriched), (PLAIN, patients - enriched)):
                if count:
                    draw = replace(self.draw, enriched=kind == ENRICHED, first_patient=first)
                    listed.append(PhantomGroup(role, kind, count, draw))
                first += count
        return listed


@dataclass(frozen=True)
class PhantomGroup:
    """Phantoms that are drawn alike.

    Args:
        role: What they are there for.
        kind: `enriched` or `plain`.
        patients: How many.
        draw: How.
    """

    role: str
    kind: str
    patients: int
    draw: PhantomArgs


@dataclass(frozen=True)
class CohortArgs:
    """Who is studied.

    Args:
        store: Made by `voco2d prepare`; None makes phantoms.
        labels: CSV as RSNA 2023's `train.csv`; by default the store's own. Patients of the store who aren't in it are
            unlabeled.
        slice_labels: CSV as RSNA 2023's `image_level_labels.csv`, for the store; see `voco2d finetune --slice-labels`.
        phantom: The phantoms, where there is no store.
    """

    store: str | None = None
    labels: str | None = None
    slice_labels: str | None = None
    phantom: PhantomRecipe = field(default_factory=PhantomRecipe)


@dataclass(frozen=True)
class SplitArgs:
    """Who is there for what; all shares are of the labelled patients, 0…1, and drawn alike in every class.

    Phantoms have their numbers in the recipe; of these settings only `pretrain_on` is for them.

    Args:
        folds: 1 tests on one part of the patients; more test on each of as many parts in turn, with models that have
            seen the others only.
        test: Share that is tested on with one fold.
        validation: Share of whom the epoch is chosen on; 0 keeps the last epoch.
        unlabeled: Share whose labels are laid aside.
        pretrain_on: Pretraining sees `unlabeled` patients only, or those of `train` too, without their labels. It
            never sees patients of validation or test.
        seed: Of the draw; the same for all arms and seeds.
    """

    folds: int = 1
    test: float = 0.3
    validation: float = 0.1
    unlabeled: float = 0.0
    pretrain_on: Literal["unlabeled", "train"] = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise ConfigError(f"split.folds={self.folds}: must be at least 1")
        for key in ("test", "validation", "unlabeled"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"split.{key}={getattr(self, key)}: must be at least 0 and below 1")
        if self.test + self.validation + self.unlabeled >= 1:
            raise ConfigError("split: test, validation and unlabeled leave nobody to learn from; they must sum below 1")
        if self.folds == 1 and self.test == 0:
            raise ConfigError("split.test=0: with one fold somebody must be tested")


@dataclass(frozen=True)
class Arm:
    """One way to start a classifier.

    Args:
        name: What tables call it.
        start: `random`, `imagenet`, a checkpoint's path, or `pretrain`.
        pretrain: Settings of the pretraining, where that is the start.
    """

    name: str
    start: str
    pretrain: PretrainArgs | None = None

    @property
    def own_start(self) -> str | None:
        """The path of the checkpoint that it starts from, where it is neither pretrained here nor one of timm's."""
        return None if self.pretrain is not None or self.start in (RANDOM, IMAGENET) else self.start


@dataclass(frozen=True)
class SlurmArgs:
    """How a SLURM cluster runs the study.

    Args:
        options: Words after `#SBATCH`, one a line.
        setup: Shell lines before each job, to activate an environment for example.
    """

    options: tuple[str, ...] = ("--cpus-per-task=4", "--mem=16G", "--time=24:00:00")
    setup: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudySettings:
    """Everything of a study but its arms.

    Args:
        cohort: Who is studied.
        split: Who is there for what.
        fractions: Shares of the training patients whose labels are used; smaller ones lie in larger ones.
        seeds: Of pretraining, the labelled share, and fine-tuning.
        finetune: Fine-tuning, alike for all arms; `fraction` and `seed` follow from the study.
        min_steps: Epochs are added until a fine-tuning has as many steps, so that few labels don't mean little
            training; 0 adds none.
        compute_tolerance: By how much the images that arms are pretrained on may differ, as a share.
        analysis: What is computed from the predictions.
        slurm: For `--slurm-array`.
    """

    cohort: CohortArgs = field(default_factory=CohortArgs)
    split: SplitArgs = field(default_factory=SplitArgs)
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    finetune: FinetuneArgs = field(default_factory=FinetuneArgs)
    min_steps: int = 0
    compute_tolerance: float = 0.01
    analysis: AnalysisArgs = field(default_factory=AnalysisArgs)
    slurm: SlurmArgs = field(default_factory=SlurmArgs)

    def __post_init__(self) -> None:
        for key in ("fractions", "seeds"):
            values = getattr(self, key)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{key}={list(values)}: give at least one, and none twice")
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ConfigError(f"fractions={list(self.fractions)}: each must be above 0 and at most 1")
        for key, values in (("seeds", self.seeds), ("split.seed", (self.split.seed,))):
            wrong = next((seed for seed in values if not 0 <= seed < 2**32), None)
            if wrong is not None:
                raise ConfigError(f"{key}: {wrong} is no seed; it must lie in 0…{2**32 - 1}")
        if self.min_steps < 0:
            raise ConfigError(f"min_steps={self.min_steps}: must be at least 0")
        if self.cohort.store is None and self.finetune.targets is not None:
            raise ConfigError("finetune.targets: phantoms have RSNA's labels alone; give cohort.store, or leave it out")
        if self.cohort.store is None and self.split.folds > 1:
            raise ConfigError(f"split.folds={self.split.folds}: phantoms have test patients of their own; leave it 1")


@dataclass(frozen=True)
class StudyArgs(StudySettings):
    """A study.

    Args:
        arms: What is compared, in the order of the tables.
    """

    arms: tuple[Arm, ...] = ()
