"""Configuration is strict: a wrong key or value is named with the way out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from voco2d.config import from_tree, read_tree, resolve, to_tree, to_yaml
from voco2d.errors import ConfigError


@dataclass(frozen=True)
class OptimArgs:
    lr: float = 1e-4
    name: Literal["adamw", "sgd"] = "adamw"


@dataclass(frozen=True)
class Args:
    size: tuple[int, int, int] = (1, 2, 3)
    steps: int = 3
    device: str | None = None
    spacing: tuple[float, float] | None = None
    labels: tuple[int, ...] = ()
    flips: bool = True
    optim: OptimArgs = field(default_factory=OptimArgs)


PRESETS = {"big": {"steps": 1000, "optim": {"lr": 0.5}}}


def test_words_override_presets_and_defaults() -> None:
    args = resolve(Args, "big", ["optim.name=sgd", "size=[4,5,6]", "device=cpu"], PRESETS)
    assert args == Args(size=(4, 5, 6), steps=1000, device="cpu", optim=OptimArgs(lr=0.5, name="sgd"))


def test_a_preset_is_not_changed_by_use() -> None:
    resolve(Args, "big", ["optim.lr=3e-4"], PRESETS)
    assert PRESETS["big"] == {"steps": 1000, "optim": {"lr": 0.5}}


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert resolve(Args, overrides=["optim.lr=3e-4"]).optim.lr == 3e-4


def test_yaml_round_trip(tmp_path: Path) -> None:
    args = Args(size=(7, 8, 9), optim=OptimArgs(name="sgd"))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(args))
    assert resolve(Args, path) == args
    assert from_tree(Args, to_tree(args)) == args


def test_yaml_may_start_from_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: big\noptim:\n  name: sgd\n")
    assert resolve(Args, path, presets=PRESETS) == Args(steps=1000, optim=OptimArgs(lr=0.5, name="sgd"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("step=3", "unknown key 'step'; known keys: size, steps, device, spacing, labels, flips, optim.lr, optim.name"),
        ("optim.l=3", "unknown key 'optim.l'; known keys: optim.lr, optim.name"),
        ("optim=3", "'optim' is a section; its keys: optim.lr, optim.name"),
        ("steps.more=3", "'steps' has no keys of its own; write steps=VALUE, a whole number"),
        ("steps=many", "steps: 'many' is not a whole number"),
        ("steps=1.5", "steps: '1.5' is not a whole number"),
        ("size=[1,2]", "size: '[1,2]' is not a list of 3 whole numbers"),
        ("size=abc", "size: 'abc' is not a list of 3 whole numbers"),
        ("spacing=x", "spacing: 'x' is not a list of 2 numbers or null"),
        ("labels=[a]", "labels: '[a]' is not a list of whole numbers"),
        ("steps=null", "steps: 'null' is not a whole number"),
        ("flips=3", "flips: '3' is not true or false"),
        ("optim.lr=x", "optim.lr: 'x' is not a number"),
        ("optim.name=lion", "optim.name: 'lion' is not one of adamw, sgd"),
        ("steps", "'steps' is not key=value; write for example steps=200"),
    ],
)
def test_a_wrong_word_is_named_in_plain_words(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(Args, overrides=[word])
    assert str(caught.value) == message


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_tree(Args, {"steps": None, "flips": True, "optim": {"lr": [1]}})
    assert str(caught.value) == "steps: null is not a whole number; optim.lr: [1] is not a number"


@pytest.mark.parametrize(
    ("text", "message"), [("- 1\n- 2\n", "list, not a mapping"), ("a: [", "not YAML"), ("preset: small", "small")]
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve(Args, path, presets=PRESETS)


def test_what_is_written_says_its_schema_first() -> None:
    assert to_yaml(Args()).startswith("schema: 1\n")
    assert "schema" not in to_tree(Args())


@pytest.mark.parametrize("line", ["", "schema: 1\n", "schema: 1\npreset: big\n"])
def test_a_file_without_a_schema_is_of_the_first(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{line}size: [7, 8, 9]\n")
    assert resolve(Args, path, presets=PRESETS).size == (7, 8, 9)
    assert "schema" not in read_tree(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "schema: 2",
            r"mine\.yaml: is of schema 2, and voco2d \S+ reads schema 1; update voco2d, or write the file anew",
        ),
        ("schema: 0", r"mine\.yaml: schema 0 is none; write schema: 1"),
        ("schema: new", "schema 'new' is none"),
        ("schema: 1.0", r"schema 1\.0 is none"),
        ("schema: true", "schema True is none"),
        ("schema:", "schema None is none"),
    ],
)
def test_a_file_of_another_schema_is_refused_before_its_keys(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{line}\nkey_of_the_future: 1\n")
    with pytest.raises(ConfigError, match=message):
        resolve(Args, path)
    with pytest.raises(ConfigError, match=message):
        read_tree(path)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="presets: big"):
        resolve(Args, "huge", presets=PRESETS)
