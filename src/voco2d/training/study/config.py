"""Reads the file of a study: its arms, each a start or a preset with its changes, and everything else."""

import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from voco2d.config import Tree, from_tree, merge, override, read_tree
from voco2d.errors import ConfigError
from voco2d.evaluation.study_contests import check_claims
from voco2d.training.finetune_args import PRESETS as FINETUNE_PRESETS
from voco2d.training.pretrain_args import PRESETS, PretrainArgs
from voco2d.training.study.args import Arm, StudyArgs, StudySettings

PRETRAIN = "pretrain"
_QUICK = "quick"
_DECIDED = {
    "seed": "seeds decides it",
    "fraction": "fractions decides it",
    "folds": "split.folds decides it",
    "run_folds": "each fold of split.folds is a job of its own",
    "fold": "each fold of split.folds is a job of its own",
    "transductive": "a study never tests patients that a start is known to have seen",
}
"""Keys of `finetune` that a study decides itself, and by what; of them pretraining has `seed`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_study(source: str | Path, overrides: Sequence[str] = (), quick: bool = False) -> StudyArgs:
    """Read a study's YAML file.

    Besides the keys of `StudySettings` it has `arms`, name → `{start: random | imagenet | PATH}` or `{preset: NAME}`
    with changes; `pretrain`, changes that all presets share; and `quick`, changes for a small version of the study.
    `finetune` may name a `preset` of `voco2d finetune` besides its changes.

    Args:
        source: The file.
        overrides: `key=value` words, for example `pretrain.steps=100` or `arms.voco2d.optim.lr=1e-3`.
        quick: Whether `quick` counts.

    Raises:
        ConfigError: A key is unknown or without effect here, a value can't be, a file is missing, or the arms don't
            see as many images.
    """
    tree = deepcopy(read_tree(source))
    smaller = tree.pop(_QUICK, None)
    if quick:
        if not isinstance(smaller, dict):
            raise ConfigError(f"{source}: has no section quick, so --quick can do nothing; add one or leave it out")
        merge(tree, smaller)
    override(tree, overrides)
    arms, shared = _section(tree, "arms"), _section(tree, PRETRAIN)
    _refuse_unknown(tree)
    _refuse_decided("finetune", tree.get("finetune"), _DECIDED)
    _start_from_preset(tree, str(source))
    _refuse_decided(PRETRAIN, shared, ("seed",))
    for name, arm in arms.items():
        _refuse_decided(f"arms.{name}", arm, ("seed",))
    settings = from_tree(StudySettings, tree)
    built = tuple(_arm(str(name), arm, shared, str(source)) for name, arm in arms.items())
    settings = replace(
        settings, finetune=replace(settings.finetune, backbone=_backbone(settings, built, shared, str(source)))
    )
    args = StudyArgs(**{entry.name: getattr(settings, entry.name) for entry in fields(settings)}, arms=built)
    _check(args, str(source))
    return args


def images(arm: Arm) -> int:
    """Return how many images an arm's pretraining encodes, 0 where there is none; what equal compute is told by."""
    return 0 if arm.pretrain is None else arm.pretrain.images_per_step * arm.pretrain.steps


def pixels(arm: Arm) -> int:
    """Return how many pixels they have."""
    if arm.pretrain is None:
        return 0
    method = arm.pretrain.method
    return images(arm) * getattr(method, "side", method.crop) ** 2


def _section(tree: Tree, key: str) -> Tree:
    section = tree.pop(key, None) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{key!r} is a section of keys and values")
    return section


def _refuse_unknown(tree: Tree) -> None:
    known = [entry.name for entry in fields(StudySettings)]
    unknown = next((str(key) for key in tree if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"unknown key {unknown!r}; known keys: {', '.join([*known, 'arms', PRETRAIN, _QUICK])}")


def _start_from_preset(tree: Tree, source: str) -> None:
    """Put the preset that `finetune` names under what it says itself."""
    own = tree.get("finetune")
    if not isinstance(own, dict) or "preset" not in own:
        return
    preset = own.pop("preset")
    if not isinstance(preset, str) or preset not in FINETUNE_PRESETS:
        presets = ", ".join(FINETUNE_PRESETS)
        raise ConfigError(f"{source}: finetune.preset: unknown preset {preset!r}; presets: {presets}")
    tree["finetune"] = deepcopy(FINETUNE_PRESETS[preset])
    merge(tree["finetune"], own)


def _refuse_decided(section: str, tree: Any, keys: Iterable[str]) -> None:
    """Refuse what would have no effect, or make every fine-tuning fail after hours of pretraining."""
    found = next((key for key in keys if isinstance(tree, dict) and key in tree), None)
    if found is not None:
        raise ConfigError(f"{section}.{found}: {_DECIDED[found]} in a study; leave it out")


def _arm(name: str, tree: Any, shared: Tree, source: str) -> Arm:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{source}: arm {name!r}: use letters, digits, dots, dashes and underscores")
    if not isinstance(tree, dict) or ("start" in tree) == ("preset" in tree):
        raise ConfigError(f"{source}: arm {name}: give either start: random, imagenet or a path, or preset: NAME")
    own = dict(tree)
    if "start" in own:
        start = own.pop("start")
        if own or not isinstance(start, str) or not start or start == PRETRAIN:
            raise ConfigError(f"{source}: arm {name}: start is random, imagenet or a path, and has no other keys")
        return Arm(name, start)
    preset = own.pop("preset")
    if preset not in PRESETS:
        raise ConfigError(f"{source}: arm {name}: unknown preset {preset!r}; presets: {', '.join(PRESETS)}")
    merged = deepcopy(PRESETS[preset])
    merge(merged, shared)
    merge(merged, own)
    try:
        return Arm(name, PRETRAIN, from_tree(PretrainArgs, deepcopy(merged)))
    except ConfigError as error:
        raise ConfigError(f"{source}: arm {name}: {error}") from error


def _backbone(settings: StudySettings, arms: Sequence[Arm], shared: Tree, source: str) -> str | None:
    """Return the one backbone of all arms, those that aren't pretrained among them; None leaves it to checkpoints."""
    given = [arm.pretrain.backbone for arm in arms if arm.pretrain is not None]
    names = {name for name in (settings.finetune.backbone, shared.get("backbone"), *given) if name is not None}
    if len(names) > 1:
        raise ConfigError(f"{source}: arms have different backbones ({', '.join(sorted(names))}); set one for all")
    return names.pop() if names else None


def _check(args: StudyArgs, source: str) -> None:
    if not args.arms:
        raise ConfigError(f"{source}: has no arms; give some, for example arms: {{random: {{start: random}}}}")
    args.analysis.for_targets(args.finetune.target_set)
    _refuse_missing(args, source)
    check_claims(args.analysis, [arm.name for arm in args.arms], args.fractions)
    counts = {arm.name: images(arm) for arm in args.arms if arm.pretrain is not None}
    if counts and max(counts.values()) > min(counts.values()) * (1 + args.compute_tolerance):
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(
            f"{source}: arms are pretrained on different numbers of images ({told}); make steps × batch_size × images "
            "a volume equal, or raise compute_tolerance"
        )


def _refuse_missing(args: StudyArgs, source: str) -> None:
    """Say at once, and not when its job comes, that a file is missing."""
    named = {f"arms.{arm.name}.start": arm.own_start for arm in args.arms}
    if args.cohort.store is not None:
        named |= {"cohort.labels": args.cohort.labels, "cohort.slice_labels": args.cohort.slice_labels}
    for key, path in named.items():
        if path is not None and not Path(path).exists():
            raise ConfigError(f"{source}: {key}={path}: no such file; paths are taken from the folder you call from")
