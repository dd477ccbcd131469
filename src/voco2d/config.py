"""Configuration: frozen dataclasses filled from a preset, a YAML file and `key=value` words, strictly."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from voco2d.errors import ConfigError

Args = TypeVar("Args")
Tree = dict[str, Any]

_SECTION = "config"


def resolve(
    cls: type[Args],
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    presets: Mapping[str, Tree] | None = None,
) -> Args:
    """Build `cls` from its defaults, then a preset or YAML file, then `key=value` words.

    Args:
        cls: A dataclass whose fields are the known keys; nested dataclasses are sections, reached as `section.key`.
        source: Name of a preset, path of a YAML file (whose key `preset` may name the preset it starts from), or None.
        overrides: Words like `steps=200` or `optim.lr=3e-4`; later ones win.
        presets: Known presets, each a tree of the values that differ from the defaults.

    Raises:
        ConfigError: A key is unknown (the known ones are listed), a value has the wrong type, or `source` is neither.
    """
    tree = _read_source(source, presets or {})
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{word!r} is not key=value; write for example steps=200")
        _merge(tree, _nest(key.split("."), value))
    return from_tree(cls, tree)


def from_tree(cls: type[Args], tree: Tree) -> Args:
    """Build `cls` from plain values, as found in a checkpoint or a YAML file.

    Raises:
        ConfigError: As `resolve`.
    """
    _refuse_unknown(cls, tree, section="")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, _SECTION)
    try:
        parsed = parser.parse_object({_SECTION: tree})
        built: Args = parser.instantiate(parsed)[_SECTION]
    except (ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error
    return built


def to_tree(args: Any) -> Tree:
    """Turn a configuration into plain values that YAML and JSON can hold; tuples become lists."""
    plain: Tree = _plain(asdict(args))
    return plain


def to_yaml(args: Any) -> str:
    """Write a configuration as YAML that `resolve` reads back to an equal value."""
    text: str = yaml.safe_dump(to_tree(args), sort_keys=False)
    return text


def _read_source(source: str | Path | None, presets: Mapping[str, Tree]) -> Tree:
    if source is None:
        return {}
    if str(source) in presets:
        return deepcopy(presets[str(source)])
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"{source}: neither a configuration file nor a preset; presets: {', '.join(presets) or 'none'}"
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not YAML: {_one_line(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: holds a {type(tree).__name__}, not a mapping of keys to values")
    start = _read_preset(tree.pop("preset"), presets) if "preset" in tree and presets else {}
    _merge(start, tree)
    return start


def _read_preset(name: Any, presets: Mapping[str, Tree]) -> Tree:
    if not isinstance(name, str) or name not in presets:
        raise ConfigError(f"unknown preset {name!r}; presets: {', '.join(presets)}")
    return deepcopy(presets[name])


def _refuse_unknown(cls: type[Any], tree: Tree, section: str) -> None:
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(
                f"unknown key {section + str(key)!r}; known keys: {', '.join(section + k for k in known)}"
            )
        if is_dataclass(hints[key]) and isinstance(hints[key], type):
            if not isinstance(value, dict):
                raise ConfigError(f"{section + key!r} is a section; set one of its keys, for example {key}.KEY=VALUE")
            _refuse_unknown(hints[key], value, section=f"{section}{key}.")


def _nest(path: Sequence[str], value: Any) -> Tree:
    for key in reversed(path):
        value = {key: value}
    nested: Tree = value
    return nested


def _merge(tree: Tree, newer: Tree) -> None:
    for key, value in newer.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(f'"{_SECTION}.', '"').split())
