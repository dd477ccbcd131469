"""Trees of plain values: read from files with a versioned schema, merged, and changed by `key=value` words."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import yaml

from voco2d.errors import ConfigError
from voco2d.version import VERSION

Tree = dict[str, Any]

SCHEMA: Final = 1
"""Of the files that are written and read.

It grows when a key is renamed, removed or changes its meaning. A new key with a default leaves it as it is: an older
program names a key that it doesn't know.
"""
SCHEMA_KEY: Final = "schema"


def read_tree(source: str | Path) -> Tree:
    """Read the plain values of a YAML file.

    Raises:
        ConfigError: There is no such file, it holds no mapping, or its schema is another one than this version reads.
    """
    return read_source(source, {})


def read_source(source: str | Path | None, presets: Mapping[str, Tree]) -> Tree:
    """Return a copy of a preset, or the values of a YAML file upon those of the preset that its key `preset` names.

    Args:
        source: Name of a preset, path of a file, or None for no values.
        presets: Known presets.

    Raises:
        ConfigError: As `read_tree`, or the preset is unknown.
    """
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
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not YAML: {_one_line(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: holds a {type(tree).__name__}, not a mapping of keys to values")
    check_schema(tree.pop(SCHEMA_KEY, SCHEMA), str(source))
    start = _read_preset(tree.pop("preset"), presets) if "preset" in tree and presets else {}
    merge(start, tree)
    return start


def check_schema(schema: object, source: str) -> None:
    """Refuse a file whose keys may mean something else than they do here.

    Args:
        schema: What the file says; one that says nothing is of the first schema.
        source: Names the file in the message.

    Raises:
        ConfigError: It is another schema than `SCHEMA`, or none at all.
    """
    if type(schema) is not int or schema < 1:
        raise ConfigError(f"{source}: schema {schema!r} is none; write schema: {SCHEMA} and the keys of this version")
    if schema > SCHEMA:
        raise ConfigError(
            f"{source}: is of schema {schema}, and voco2d {VERSION} reads schema {SCHEMA}; update voco2d, or write the "
            "file anew with the keys that this version knows (docs/reference/config.md)"
        )


def override(tree: Tree, words: Sequence[str]) -> None:
    """Change a tree of plain values by `key=value` words; `section.key` reaches inwards, later words win.

    Raises:
        ConfigError: A word is not `key=value`.
    """
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{word!r} is not key=value; write for example steps=200")
        merge(tree, nest(key.split("."), value))


def merge(tree: Tree, newer: Tree) -> None:
    """Change a tree of plain values by another one, section by section; what `newer` doesn't name stays."""
    for key, value in newer.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = deepcopy(value)  # or a later change of `tree` would change `newer` too


def nest(path: Sequence[str], value: Any) -> Tree:
    """Put a value under a path of keys."""
    for key in reversed(path):
        value = {key: value}
    nested: Tree = value
    return nested


def _read_preset(name: Any, presets: Mapping[str, Tree]) -> Tree:
    if not isinstance(name, str) or name not in presets:
        raise ConfigError(f"unknown preset {name!r}; presets: {', '.join(presets)}")
    return deepcopy(presets[name])


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a key that comes twice, of which it would keep the last, is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key!r} comes twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
