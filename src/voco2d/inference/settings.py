"""How a raw series becomes what a network sees, and what it grades; read from what its weights say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from voco2d.config import Tree, from_tree, to_tree
from voco2d.errors import CheckpointError, ConfigError
from voco2d.io.source import ReadArgs
from voco2d.preprocessing.preprocess import PreprocessArgs, settings_tree
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.target_block import told_targets
from voco2d.targets import RSNA_2023, TargetSet

KEYS = ("preprocess", "read", "readout", "test_flips")
"""Entries of the metadata in which all networks of an ensemble must agree."""

Args = TypeVar("Args")


@dataclass(frozen=True)
class ModelSettings:
    """From raw files to the slices a network sees, as in its training.

    Args:
        read: How raw files are read.
        preprocess: How volumes are prepared.
        readout: What the network sees of a prepared volume.
        test_flips: Mirror images that were graded too, names of `FLIP_AXES`.
        targets: What it grades.
    """

    read: ReadArgs = field(default_factory=ReadArgs)
    preprocess: PreprocessArgs = field(default_factory=PreprocessArgs)
    readout: ReadoutArgs = field(default_factory=ReadoutArgs)
    test_flips: tuple[str, ...] = ()
    targets: TargetSet = RSNA_2023

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], origin: Path | str) -> "ModelSettings":
        """Take the settings out of the description of a classifier's weights.

        Args:
            metadata: Of the file; also what `to_tree` returned.
            origin: What error messages call it.

        Raises:
            CheckpointError: A setting is not known here.
        """
        return cls(
            read=_settings(ReadArgs, _read_tree(metadata.get("read")), origin),
            preprocess=_settings(PreprocessArgs, settings_tree(metadata.get("preprocess") or {}), origin),
            readout=_settings(ReadoutArgs, metadata.get("readout"), origin),
            test_flips=tuple(metadata.get("test_flips") or ()),
            targets=_targets(metadata.get("targets"), origin),
        )

    def to_tree(self) -> Tree:
        """Return how a series becomes what a network sees as plain values that JSON and YAML can hold."""
        return {key: value for key, value in to_tree(self).items() if key in KEYS}


def common_metadata(folds: Mapping[Path, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the description that the weights of an ensemble share.

    Args:
        folds: File → its metadata.

    Raises:
        CheckpointError: They were trained with different settings.
    """
    (first_path, first), *others = folds.items()
    for path, metadata in others:
        unlike = [key for key in KEYS if metadata.get(key) != first.get(key)]
        if _targets(metadata.get("targets"), path) != _targets(first.get("targets"), first_path):
            unlike.append("targets")
        if unlike:
            raise CheckpointError(
                f"{path.parent}: {path.name} was trained with different settings than {first_path} "
                f"({', '.join(unlike)}); name weights of the same settings"
            )
    return first


def _targets(described: Any, origin: Path | str) -> TargetSet:
    try:
        return told_targets(described)
    except ConfigError as error:
        raise CheckpointError(
            f"{origin}: its targets are not known here ({error}); use the version that wrote it"
        ) from error


def _read_tree(tree: Any) -> Any:
    """Complete the reading of a run of an earlier version, which corrected no tilt."""
    return {"correct_tilt": False, **tree} if tree else tree


def _settings(cls: type[Args], tree: Any, origin: Path | str) -> Args:
    try:
        return from_tree(cls, tree or {})
    except ConfigError as error:
        raise CheckpointError(
            f"{origin}: its settings are not known here ({error}); use the version that wrote it"
        ) from error
