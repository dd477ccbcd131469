from pathlib import Path

import pytest

from voco2d.config import from_tree, resolve, to_tree
from voco2d.errors import ConfigError, UsageError
from voco2d.target_block import described_targets, parse_targets, read_targets, targets_block, told_targets
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.training.finetune_args import FinetuneArgs

BLOCK = """
targets:
  liver_visible: {kind: binary, classes: [absent, present], weights: [1, 2]}
  fibrosis: {kind: ordinal, classes: [f0, f1, f2, f3]}
  phase: {kind: multiclass, classes: [native, arterial, venous]}
"""


def test_no_block_means_rsna() -> None:
    assert parse_targets(None) is read_targets(None) is told_targets(None) is RSNA_2023
    assert FinetuneArgs().target_set is RSNA_2023
    assert targets_block(RSNA_2023) is None
    # what checkpoints have held since before there was a choice
    assert described_targets(RSNA_2023)["kidney"] == ["healthy", "low", "high"]
    assert told_targets(described_targets(RSNA_2023)) is RSNA_2023


def test_a_block_gives_columns_and_goes_to_and_fro(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BLOCK)
    args = resolve(FinetuneArgs, tmp_path / "config.yaml")
    targets = args.target_set
    assert targets.columns[:4] == ("liver_visible_absent", "liver_visible_present", "fibrosis_f0", "fibrosis_f1")
    assert targets["liver_visible"].weights == (1, 2)
    assert targets["phase"].weights == (1, 1, 1)
    assert not targets.is_rsna
    assert from_tree(FinetuneArgs, to_tree(args)) == args
    assert read_targets(tmp_path) == read_targets(tmp_path / "config.yaml") == targets
    assert told_targets(described_targets(targets)) == targets


FAULTS = {
    "{}": ("must map names to targets",),
    "[a]": ("is not a mapping",),
    "{a: 1}": ("a: must have kind and classes",),
    "{a b: {kind: binary, classes: [x, y]}}": ("'a b' is no name",),
    "{patient_id: {kind: binary, classes: [x, y]}}": ("stands for something else",),
    "{a: {kind: graded, classes: [x, y]}}": ("kind 'graded' is not one of binary, ordinal, multiclass",),
    "{a: {kind: binary, classes: [x, y, z]}}": ("a binary target has 2 classes, not 3",),
    "{a: {kind: ordinal, classes: [x]}}": ("at least 2",),
    "{a: {kind: ordinal, classes: [x, x]}}": ("class x comes twice",),
    "{a: {kind: binary, classes: [no, yes]}}": ("put it in quotes",),
    "{a: {kind: binary, classes: [x, y], weights: [1]}}": ("a list of 2 numbers",),
    "{a: {kind: binary, classes: [x, y], weights: [-1, 2]}}": ("0 or more",),
    "{a: {kind: binary, classes: [x, y], weight: [1, 2]}}": ("unknown key weight",),
    "{a: {kind: binary, classes: [b_c, d]}, a_b: {kind: binary, classes: [c, d]}}": ("a_b_c would belong to a and",),
    "{a: {kind: q, classes: [x]}, b c: {kind: binary, classes: [1, 2, 3]}}": ("'q'", "at least 2", "'b c'", "not 3"),
}


@pytest.mark.parametrize(("block", "told"), FAULTS.items())
def test_every_fault_is_told_at_once(block: str, told: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"targets: {block}\n")
    with pytest.raises(ConfigError) as error:
        resolve(FinetuneArgs, tmp_path / "config.yaml")
    assert all(words in str(error.value) for words in told)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BLOCK + "  phase: {kind: binary, classes: [x, y]}\n")
    with pytest.raises(ConfigError, match="'phase' comes twice"):
        resolve(FinetuneArgs, tmp_path / "config.yaml")


def test_files_without_a_block(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 1\n")
    assert read_targets(tmp_path) is RSNA_2023  # a run of an earlier version
    with pytest.raises(ConfigError, match="no key targets"):
        read_targets(tmp_path / "config.yaml")
    with pytest.raises(UsageError, match="no such file"):
        read_targets(tmp_path / "absent.yaml")


def test_parts_are_places_in_the_columns() -> None:
    targets: TargetSet = parse_targets({"a": {"kind": "binary", "classes": ["x", "y"]}} | {"b": _ordinal()})
    assert [targets.columns[part] for part in targets.parts.values()] == [t.columns for t in targets.values()]


def _ordinal() -> dict[str, object]:
    return {"kind": "ordinal", "classes": ["p", "q", "r"]}
