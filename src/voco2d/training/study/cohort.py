"""The patients of a study: makes its phantoms, prepares their scans, and says who is there for what."""

import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from voco2d.data.cohort import join_labels, read_labels
from voco2d.data.cohort_folds import stratify
from voco2d.data.label_fraction import label_order, labelled_part
from voco2d.data.phantom import write_cohort
from voco2d.errors import LabelError, StoreError, UsageError
from voco2d.io.rsna_layout import IMAGE_LEVEL_LABELS_NAME
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.location import Location, parse_location
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.training.run_dir import write_text
from voco2d.training.study.args import (
    ROLES,
    TEST,
    TRAIN,
    UNLABELED,
    VALIDATION,
    PhantomGroup,
    PhantomRecipe,
    SplitArgs,
    StudyArgs,
)

_log = logging.getLogger(__name__)

GROUP = "group"
"""Column of label tables that parts the patients for tables of their own."""

Roles = dict[str, str]
"""Patient → what the patient is there for."""


def store_of(args: StudyArgs, out: Path) -> Location:
    """Return the store of a study: its own, or the one it was given."""
    return out / "cohort" / "store" if args.cohort.store is None else parse_location(args.cohort.store)


def all_labels_path(out: Path) -> Path:
    """Name the label table of every labelled patient, the ones to learn from among them."""
    return out / "cohort" / "labels.csv"


def slice_labels_path(args: StudyArgs, out: Path) -> Path | None:
    """Name the table of slices that show an injury; None where the study does without."""
    if args.cohort.store is None:
        return out / "cohort" / "slice_labels.csv" if args.cohort.phantom.slice_labels else None
    return None if args.cohort.slice_labels is None else Path(args.cohort.slice_labels)


def split_path(out: Path, fold: int) -> Path:
    """Name the table of who is there for what while a fold is tested."""
    return out / "cohort" / f"split{fold}.csv"


def read_split(out: Path, fold: int) -> Roles:
    """Read `split_path`."""
    table = pd.read_csv(split_path(out, fold), dtype=str, keep_default_na=False)
    return dict(zip(table["patient_id"], table["role"], strict=True))


def make_cohort(args: StudyArgs, out: Path, workers: int) -> dict[str, int]:
    """Make the store where the study has none, then the label table and the splits.

    What an earlier, interrupted call has made is kept.

    Args:
        args: The study.
        out: Its folder.
        workers: Processes.

    Returns:
        Number of patients a role, of the first fold.

    Raises:
        UsageError: There are no labels.
        LabelError: The labels can't be used, or leave nobody for a role.
        StoreError: The store can't be used, or phantoms are missing in it.
    """
    (out / "cohort").mkdir(parents=True, exist_ok=True)
    if args.cohort.store is None:
        labels, splits = _make_phantoms(args.cohort.phantom, out, workers)
    else:
        store = VolumeStore(store_of(args, out))
        targets = args.finetune.target_set
        path = store.labels if args.cohort.labels is None else Path(args.cohort.labels)
        if path is None:
            raise UsageError(f"{args.cohort.store}: the store has no labels.csv; set cohort.labels to a CSV")
        labels = join_labels(store.index, read_labels(path, targets), targets).labels
        splits = draw_splits(store.index, labels, args.split, targets)
    write_text(all_labels_path(out), labels.to_csv(index=False))
    for fold, roles in enumerate(splits):
        table = pd.DataFrame(sorted(roles.items()), columns=["patient_id", "role"])
        write_text(split_path(out, fold), table.to_csv(index=False))
    counts = {role: list(splits[0].values()).count(role) for role in ROLES}
    _log.info("patients: %s", ", ".join(f"{count} {role}" for role, count in counts.items()))
    return counts


def draw_splits(
    index: pd.DataFrame, labels: pd.DataFrame, args: SplitArgs, targets: TargetSet = RSNA_2023
) -> list[Roles]:
    """Say who is there for what while each fold is tested.

    Args:
        index: `VolumeStore.index`; patients of it without labels are unlabeled.
        labels: One row a patient, all of them in the store.
        args: Shares and seed.
        targets: What the labels are of.

    Returns:
        One split a fold; the test patients of the folds don't meet.

    Raises:
        LabelError: A role is left without patients.
    """
    bare: Roles = {str(patient): UNLABELED for patient in set(index["patient_id"]) - set(labels["patient_id"])}
    order = label_order(labels, args.seed, targets)
    count = {name: round(getattr(args, name) * len(labels)) for name in (TEST, VALIDATION, UNLABELED)}
    laid_aside = order[len(order) - count[UNLABELED] :]
    bare |= dict.fromkeys(laid_aside, UNLABELED)
    used = labels[~labels["patient_id"].isin(laid_aside)]
    if args.folds == 1:
        tested = [frozenset(labelled_part(used, count[TEST] / len(used), args.seed, targets))]
    else:
        series = index["patient_id"].astype(str).value_counts()
        folds = stratify(used, series, args.folds, args.seed, targets)
        tested = [frozenset(map(str, folds.index[folds == fold])) for fold in range(args.folds)]
    return [bare | _roles(used, test, count[VALIDATION], args.seed, targets) for test in tested]


def _roles(labels: pd.DataFrame, tested: frozenset[str], validated: int, seed: int, targets: TargetSet) -> Roles:
    rest = labels[~labels["patient_id"].isin(tested)]
    chosen: frozenset[str] = frozenset()
    if validated and len(rest):
        chosen = frozenset(labelled_part(rest, validated / len(rest), seed, targets))
    roles = dict.fromkeys(tested, TEST) | dict.fromkeys(chosen, VALIDATION)
    roles |= {patient: TRAIN for patient in rest["patient_id"] if patient not in chosen}
    if not tested or TRAIN not in roles.values():
        raise LabelError(f"{len(labels)} labelled patients leave nobody to learn from or to test; change split.*")
    return roles


def _make_phantoms(recipe: PhantomRecipe, out: Path, workers: int) -> tuple[pd.DataFrame, list[Roles]]:
    """Draw and prepare the phantoms; the label table says of which kind each is, in a column `group`."""
    store = out / "cohort" / "store"
    sources = [(group, out / "cohort" / "scans" / f"{group.role}-{group.kind}") for group in recipe.groups()]
    roles: Roles = {}
    tables = []
    for group, folder in sources:
        if not _is_written(folder, group, recipe.seed):
            write_cohort(folder, group.patients, recipe.seed, replace(group.draw, workers=workers))
        table = read_labels(folder / "train.csv")
        roles |= dict.fromkeys(table["patient_id"], group.role)
        if group.role != UNLABELED:
            tables.append(table.assign(**{GROUP: group.kind}))
    if _missing(store, roles):
        prepare([folder for _, folder in sources], store, PrepareArgs(recipe.preprocess, workers=workers))
    missing = _missing(store, roles)
    if missing:
        raise StoreError(f"{store}: lacks {missing} phantoms, see its quarantine.csv; change cohort.phantom")
    if not recipe.keep_scans:
        for _, folder in sources:
            shutil.rmtree(folder / "train_images", ignore_errors=True)
    if recipe.slice_labels:
        known = [
            pd.read_csv(folder / IMAGE_LEVEL_LABELS_NAME, dtype=str, keep_default_na=False) for _, folder in sources
        ]
        write_text(out / "cohort" / "slice_labels.csv", pd.concat(known, ignore_index=True).to_csv(index=False))
    return pd.concat(tables, ignore_index=True), [roles]


def _is_written(folder: Path, group: PhantomGroup, seed: int) -> bool:
    """Tell whether a cohort is finished; an unfinished one of other settings is refused by who writes it."""
    try:
        found = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    drawn = {key: value for key, value in asdict(group.draw).items() if key != "workers"}
    wanted = {"patients": group.patients, "seed": seed, "args": drawn, "complete": True}
    return all(found.get(key) == value for key, value in wanted.items())


def _missing(store: Path, patients: Iterable[str]) -> int:
    """Count the patients that a store lacks; all where there is no store yet."""
    try:
        stored = set(VolumeStore(store).index["patient_id"].astype(str))
    except StoreError:
        stored = set()
    return len(set(patients) - stored)
