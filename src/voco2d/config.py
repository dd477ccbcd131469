"""Configuration: frozen dataclasses filled from a preset, a YAML file and `key=value` words, strictly."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from voco2d.config_tree import SCHEMA, SCHEMA_KEY, Tree, merge, nest, override, read_source, read_tree
from voco2d.errors import ConfigError

__all__ = ["Tree", "from_tree", "merge", "override", "read_tree", "resolve", "to_tree", "to_yaml"]

Args = TypeVar("Args")

_SECTION = "config"
_ONE = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_MANY = {int: "whole numbers", float: "numbers", bool: "values, each true or false", str: "texts"}


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
        ConfigError: A key is unknown (the known ones of its section are listed), a value has the wrong type (every
            such value is named with what it should be), or `source` is neither, or a file of another schema.
    """
    tree = read_source(source, presets or {})
    override(tree, overrides)
    return from_tree(cls, tree)


def from_tree(cls: type[Args], tree: Tree) -> Args:
    """Build `cls` from plain values, as found in a checkpoint or a YAML file.

    Raises:
        ConfigError: As `resolve`.
    """
    known = _with_choices(cls, tree)
    if known is not cls:
        settled: Any = from_tree(known, tree)
        return cls(**{entry.name: getattr(settled, entry.name) for entry in fields(known)})
    _refuse_unknown(cls, tree, section="")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, _SECTION)
    parsed = _parse(parser, tree)
    wrong = [
        f"{'.'.join(path)}: {_shown(value)} is not {_words(hint)}"
        for path, value, hint in _leaves(cls, tree)
        if not _fits(parsed or _parse(parser, nest(path, value)), path, hint)
    ]
    if wrong or parsed is None:
        raise ConfigError("; ".join(wrong) or "configuration: its values can't be used together")
    built: Args = parser.instantiate(parsed)[_SECTION]
    return built


def to_tree(args: Any) -> Tree:
    """Turn a configuration into plain values that YAML and JSON can hold; tuples become lists."""
    plain: Tree = _plain(asdict(args))
    return plain


def to_yaml(args: Any) -> str:
    """Write a configuration as YAML that `resolve` reads back to an equal value; its first key says which schema."""
    text: str = yaml.safe_dump({SCHEMA_KEY: SCHEMA, **to_tree(args)}, sort_keys=False)
    return text


def _with_choices(cls: type[Any], tree: Tree) -> type[Any]:
    """Settle each section that is one of several dataclasses: its key `name` says which, or else it is the default's.

    Raises:
        ConfigError: None of them has that name.
    """
    chosen: dict[str, type[Any]] = {}
    for key, hint in get_type_hints(cls).items():
        parts = get_args(hint)
        if not parts or not all(is_dataclass(part) for part in parts):
            continue
        choices = {name: part for part in parts for name in get_args(get_type_hints(part)["name"])}
        section = tree.get(key)
        default: Any = next(known.default_factory for known in fields(cls) if known.name == key)
        name = section.get("name", default().name) if isinstance(section, dict) else default().name
        if not isinstance(name, str) or name not in choices:
            raise ConfigError(f"{key}.name: {_shown(name)} is not one of {', '.join(choices)}")
        chosen[key] = choices[name]
    if not chosen:
        return cls
    settled = {key: field(default_factory=part) for key, part in chosen.items()}
    body = {"__annotations__": dict(chosen), "__module__": cls.__module__, "__doc__": cls.__doc__, **settled}
    made: type[Any] = dataclass(frozen=True)(type(cls.__name__, (cls,), body))
    return made


def _refuse_unknown(cls: type[Any], tree: Tree, section: str) -> None:
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(f"unknown key {section + str(key)!r}; known keys: {_known_keys(cls, section)}")
        if is_dataclass(hints[key]) and isinstance(hints[key], type):
            inner = f"{section}{key}."
            if not isinstance(value, dict):
                raise ConfigError(f"{section + key!r} is a section; its keys: {_known_keys(hints[key], inner)}")
            _refuse_unknown(hints[key], value, section=inner)
        elif isinstance(value, dict) and not _is_free(hints[key]):
            raise ConfigError(
                f"{section + key!r} has no keys of its own; write {section}{key}=VALUE, {_words(hints[key])}"
            )


def _is_free(hint: Any) -> bool:
    """Tell whether a setting is a mapping whose keys are the user's."""
    return any(get_origin(part) is dict for part in (hint, *get_args(hint)))


def _known_keys(cls: type[Any], section: str) -> str:
    hints = get_type_hints(cls)
    return ", ".join(
        _known_keys(hints[known.name], f"{section}{known.name}.")
        if is_dataclass(hints[known.name]) and isinstance(hints[known.name], type)
        else section + known.name
        for known in fields(cls)
    )


def _leaves(cls: type[Any], tree: Tree, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path of keys, the value and the type of every setting; sections are dicts, settings never."""
    hints = get_type_hints(cls)
    for key, value in tree.items():
        if isinstance(value, dict) and not _is_free(hints[key]):
            yield from _leaves(hints[key], value, (*above, key))
        else:
            yield (*above, key), value, hints[key]


def _parse(parser: ArgumentParser, tree: Tree) -> Namespace | None:
    """Parse a tree of values; None where one is of the wrong type. The parser's own words name Python's types."""
    try:
        parsed: Namespace = parser.parse_object({_SECTION: tree})
    except (ArgumentError, TypeError, ValueError):
        return None
    return parsed


def _fits(parsed: Namespace | None, path: Sequence[str], hint: Any) -> bool:
    if parsed is None:
        return False
    # the parser lets null through everywhere
    return parsed[".".join([_SECTION, *path])] is not None or NoneType in get_args(hint)


def _words(hint: Any) -> str:
    parts = get_args(hint)
    if get_origin(hint) is dict:
        return "a mapping"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(part) for part in parts)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, parts))}" if len(parts) > 1 else str(parts[0])
    if get_origin(hint) in (tuple, list):
        kinds = [part for part in parts if part is not Ellipsis]
        count = f"{len(kinds)} " if len(kinds) == len(parts) and get_origin(hint) is tuple else ""
        return f"a list of {count}{_MANY.get(kinds[0], 'values')}"
    return _ONE.get(hint, "a value that it takes")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
