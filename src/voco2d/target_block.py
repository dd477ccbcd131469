"""The `targets:` block of a configuration: read strictly, written back, and as checkpoints carry it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final, get_args

from voco2d.config import Tree, read_tree
from voco2d.errors import ConfigError, UsageError
from voco2d.targets import RSNA_2023, Kind, Target, TargetSet

BLOCK: Final = "targets"
RUN_CONFIG: Final = "config.yaml"
"""What a run folder holds its configuration in."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
_LONGEST: Final = 40
_KEYS: Final = ("kind", "classes", "weights")
_TAKEN: Final = (
    *("patient_id", "series_id", "status", "reason", "arm", "fraction", "seed", "fold", "split", "role", "group"),
    *("metric", "mean", "targets", "columns", "features", "slices", "score", "any_injury", "probabilities"),
)
"""Names that tables, networks or reports use for something else."""
_EXAMPLE: Final = "for example liver_visible: {kind: binary, classes: [absent, present], weights: [1, 2]}"


def parse_targets(block: Any, origin: str = BLOCK) -> TargetSet:
    """Build targets from the plain values of a block, name → `kind`, `classes` and maybe `weights`.

    Args:
        block: The block; None stands for RSNA 2023's.
        origin: What error messages call it.

    Raises:
        ConfigError: Anything about it is wrong; the message lists all of it.
    """
    if block is None:
        return RSNA_2023
    if not isinstance(block, Mapping) or not block:
        raise ConfigError(f"{origin}: must map names to targets, {_EXAMPLE}")
    faults = [fault for name, entry in block.items() for fault in _faults(name, entry)]
    targets = [] if faults else [_target(str(name), entry) for name, entry in block.items()]
    faults += _clashes(targets)
    if faults:
        raise ConfigError(f"{origin}: {'; '.join(faults)}")
    return TargetSet(tuple(targets))


def targets_block(targets: TargetSet) -> Tree | None:
    """Write targets as the block that `parse_targets` reads; None for RSNA 2023's."""
    if targets.is_rsna:
        return None
    return {
        name: {"kind": target.kind, "classes": list(target.classes), "weights": list(target.weights)}
        for name, target in targets.items()
    }


def described_targets(targets: TargetSet) -> Tree:
    """Describe targets for a checkpoint: RSNA 2023's as name → classes, as ever, others as their block."""
    return targets_block(targets) or {name: list(target.classes) for name, target in targets.items()}


def told_targets(described: Any) -> TargetSet:
    """Read what `described_targets` wrote; nothing, as in early checkpoints, means RSNA 2023's.

    Raises:
        ConfigError: It describes no targets of this version.
    """
    if described is None or described == described_targets(RSNA_2023):
        return RSNA_2023
    return parse_targets(described)


def read_targets(path: Path | None) -> TargetSet:
    """Read targets from a YAML file that has the block, a run's `config.yaml` for example, or from a run folder.

    Args:
        path: None stands for RSNA 2023's.

    Raises:
        UsageError: There is no such file, or the folder is no run.
        ConfigError: The file has no block, or a faulty one.
    """
    if path is None:
        return RSNA_2023
    file = path / RUN_CONFIG if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file; give a YAML file with the key {BLOCK}, or a run folder")
    tree = read_tree(file)
    if BLOCK not in tree and path != file:
        return RSNA_2023  # a run of a version that knew no other targets
    if BLOCK not in tree:
        raise ConfigError(f"{file}: has no key {BLOCK}; add the block, {_EXAMPLE}")
    return parse_targets(tree[BLOCK], f"{file}: {BLOCK}")


def _faults(name: Any, entry: Any) -> Iterator[str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST:
        yield f"{name!r} is no name for columns; use a letter, then letters, digits and underscores, {_LONGEST} at most"
    elif name in _TAKEN:
        yield f"{name!r} stands for something else in tables; choose another name"
    if not isinstance(entry, Mapping):
        yield f"{name}: must have kind and classes, {_EXAMPLE}"
        return
    unknown = [str(key) for key in entry if key not in _KEYS]
    if unknown:
        yield f"{name}: unknown key {', '.join(unknown)}; known keys: {', '.join(_KEYS)}"
    if entry.get("kind") not in get_args(Kind):
        yield f"{name}: kind {entry.get('kind')!r} is not one of {', '.join(get_args(Kind))}"
    yield from _class_faults(name, entry)


def _class_faults(name: Any, entry: Mapping[str, Any]) -> Iterator[str]:
    classes = entry.get("classes")
    if not isinstance(classes, list | tuple) or len(classes) < 2:
        yield f"{name}: classes must be a list of at least 2 names"
        return
    for grade in classes:
        if isinstance(grade, bool):  # YAML's yes, no, on and off
            yield f"{name}: class {grade} is what YAML makes of an unquoted yes or no; put it in quotes"
        elif not isinstance(grade, str | int) or not _CLASS.fullmatch(str(grade)) or len(str(grade)) > _LONGEST:
            yield f"{name}: class {grade!r} is no name for columns; use letters, digits and underscores"
    twice = [grade for grade, count in Counter(map(str, classes)).items() if count > 1]
    if twice:
        yield f"{name}: class {', '.join(twice)} comes twice"
    if entry.get("kind") == "binary" and len(classes) != 2:
        yield f"{name}: a binary target has 2 classes, not {len(classes)}; use ordinal or multiclass"
    weights = entry.get("weights")
    if weights is None:
        return
    if not isinstance(weights, list | tuple) or len(weights) != len(classes):
        yield f"{name}: weights must be a list of {len(classes)} numbers, one a class"
    elif not all(_is_weight(weight) for weight in weights) or not any(weight > 0 for weight in weights):
        yield f"{name}: weights {list(weights)} must be finite numbers of 0 or more, and one above 0"


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and isfinite(weight) and weight >= 0


def _target(name: str, entry: Mapping[str, Any]) -> Target:
    classes = tuple(map(str, entry["classes"]))
    weights = entry.get("weights") or (1.0,) * len(classes)
    return Target(name, classes, tuple(float(weight) for weight in weights), entry["kind"])


def _clashes(targets: Sequence[Target]) -> list[str]:
    """List columns that two targets would share; a target's bare name may be the column of its labels."""
    owners: dict[str, list[str]] = {}
    for target in targets:
        for column in (target.name, *target.columns):
            owners.setdefault(column, []).append(target.name)
    return [
        f"column {column} would belong to {' and '.join(names)}; rename one"
        for column, names in owners.items()
        if len(names) > 1
    ]
