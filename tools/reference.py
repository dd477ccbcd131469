"""Write docs/reference/commands.md and docs/reference/config.md from the program itself.

    python tools/reference.py

`tests/docs/test_reference.py` fails while they say anything else than the program does.
"""

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from voco2d.cli import build_parser
from voco2d.config import Tree
from voco2d.config_tree import SCHEMA, SCHEMA_KEY
from voco2d.data.phantom import PhantomArgs
from voco2d.methods.registry import METHODS
from voco2d.store.build import PrepareArgs
from voco2d.training import finetune_args, pretrain_args
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.study.args import StudySettings

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
_MADE = "<!-- Made by `python tools/reference.py`; change the program, not this page. -->"
SECTIONS: Mapping[str, tuple[type[Any], Mapping[str, Tree]]] = {
    "phantom": (PhantomArgs, {}),
    "prepare": (PrepareArgs, {}),
    "pretrain": (PretrainArgs, pretrain_args.PRESETS),
    "finetune": (FinetuneArgs, finetune_args.PRESETS),
    "study": (StudySettings, {}),
}
"""Commands that take `key=value` words: their settings and presets."""
_BORROWED = {"finetune": "finetune", "cohort.phantom.draw": "phantom", "cohort.phantom.preprocess": "prepare"}
"""Sections of a study that are the settings of another command."""
_KEY = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return each generated page by its file name."""
    return {"commands.md": commands_page(), "config.md": config_page()}


def commands_page() -> str:
    """Describe every command, its arguments and its options."""
    parser = build_parser()
    lines = [_MADE, "", "# Commands", "", str(parser.description), ""]
    lines += [
        "Exit codes: 0 done, 1 failed, 2 wrong use. Every command takes `--help` and `-v`, `--verbose`. Settings that "
        "are no options are `key=value` words after them; the [configuration](config.md) lists them.",
        "",
        "| command | does |",
        "| --- | --- |",
    ]
    choices = _commands(parser)
    lines += [
        f"| [`voco2d {name}`](#voco2d-{name}) | {_cell(command.description)} |" for name, command in choices.items()
    ]
    for name, command in choices.items():
        lines += ["", f"## voco2d {name}", "", f"{_capitalised(str(command.description))}."]
        if name in SECTIONS:
            lines += ["", f"Takes `key=value` words: [their keys](config.md#{name})."]
        lines += _option_table(command)
        for inner, subcommand in _commands(command).items():
            lines += ["", f"### voco2d {name} {inner}", "", f"{_capitalised(str(subcommand.description))}."]
            lines += _option_table(subcommand)
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """List every key of every command that takes settings, with default and meaning."""
    lines = [
        _MADE,
        "",
        "# Configuration",
        "",
        "Settings are `key=value` words after the options, or keys of a YAML file given with `--config`; words win "
        "over the file, the file over the defaults. `section.key` reaches into a section. A list is written "
        "`key=[1,2]`, in quotes where the shell needs them, and nothing (None) is `null`. A wrong key or value is "
        "refused, and the message lists the known ones. Each run folder keeps what was resolved as `config.yaml`, "
        "which `--config` takes again.",
        "",
        f"A file may begin with `{SCHEMA_KEY}: {SCHEMA}`, the version of these keys; those that are written do. One "
        "without it is of version 1; one of another version than the program reads is refused with the way out.",
    ]
    for name, (cls, presets) in SECTIONS.items():
        lines += ["", f"## {name}", "", f"{_summary(cls)} [`voco2d {name}`](commands.md#voco2d-{name})"]
        if name == "study":
            lines += ["", "`arms`, `pretrain` and `quick` are described with the [studies](../study.md)."]
        lines += _key_table(_rows(cls(), "", name))
        if name == "pretrain":
            lines += _methods()
        for preset, tree in presets.items():
            changed = "nothing: it is the defaults" if not tree else ""
            lines += [
                "",
                f"### Preset {preset} of {name}",
                "",
                f"Differs from the defaults in {changed or 'these keys'}.",
            ]
            lines += ["", "```yaml", yaml.safe_dump(_plain(tree), sort_keys=False).strip(), "```"] if tree else []
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def _option_table(command: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.dest == "verbose":
            continue
        metavar = str(action.metavar or "") if action.nargs != 0 else ""
        if not metavar and action.choices is not None:
            metavar = "|".join(map(str, action.choices))
        elif not metavar and action.nargs != 0 and action.option_strings:
            metavar = "N"
        repeated = " …" if action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction) else ""
        shown = " ".join(part for part in (", ".join(action.option_strings), metavar) if part) + repeated
        needed = action.required and bool(action.option_strings)
        told = (action.help or "") % {**vars(action), "prog": command.prog}
        rows.append(f"| `{_cell(shown)}` | {_cell(told)}{' (needed)' if needed else ''} |")
    return ["", "| argument | meaning |", "| --- | --- |", *rows] if rows else []


def _methods() -> Iterator[str]:
    for name, entry in METHODS.items():
        if entry.args is METHODS["voco"].args:
            continue
        yield from ("", f"### method.name={name}", "", f"{_summary(entry.args)} In place of the keys `method.*` above:")
        yield from _key_table(_rows(entry.args(), "method.", "pretrain"))


def _key_table(rows: Sequence[str]) -> list[str]:
    return ["", "| key | default | meaning |", "| --- | --- | --- |", *rows]


def _rows(args: Any, above: str, command: str, shared: str = "") -> list[str]:
    """Return a row a key of some settings, with their values; sections follow the keys of their parent.

    Args:
        args: The settings.
        above: What stands before the keys.
        command: Whose settings they are.
        shared: What is said of a key that the docstring of the settings doesn't name.
    """
    hints, meanings = get_type_hints(type(args)), _meanings(type(args))
    own, inner = [], []
    for entry in fields(args):
        key, value = f"{above}{entry.name}", getattr(args, entry.name)
        meaning = _cell(meanings.get(entry.name, shared))
        if command == "study" and key in _BORROWED:
            link = f"as for [{_BORROWED[key]}](#{_BORROWED[key]})"
            own.append(f"| `{key}.*` | {link} | {meaning} |")
            inner += _changed(key, value)
        elif is_dataclass(value):
            inner += _rows(value, f"{key}.", command, meanings.get(entry.name, ""))
        else:
            own.append(f"| `{key}` | `{_value(value)}` | {meaning}{_choices(hints[entry.name], meaning)} |")
    return own + inner


def _changed(key: str, value: Any) -> list[str]:
    """Return a row a key in which a borrowed section differs from the defaults of the other command."""
    plain = type(value)()
    names = [entry.name for entry in fields(value) if getattr(value, entry.name) != getattr(plain, entry.name)]
    return [f"| `{key}.{name}` | `{_value(getattr(value, name))}` | Here otherwise than there. |" for name in names]


def _meanings(cls: type[Any]) -> dict[str, str]:
    """Read what the docstrings of a class and of those above it say of each key."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            text = inspect.cleandoc(base.__doc__ or "")
            found |= {key: " ".join(words.split()) for key, words in _KEY.findall(text)}
    return found


def _summary(cls: type[Any]) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]


def _choices(hint: Any, meaning: str) -> str:
    """List the values a key may have, unless its meaning names them all."""
    parts = [hint, *get_args(hint)] if get_origin(hint) in (Union, UnionType) else [hint]
    named = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    if len(named) < 2 or all(str(value) in meaning for value in named):
        return ""
    return f" One of {', '.join(f'`{value}`' for value in named)}."


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(_value(part) for part in value)}]"
    if isinstance(value, bool | NoneType):
        return "null" if value is None else str(value).lower()
    return str(value) if value != "" else '""'


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _cell(text: str | None) -> str:
    return textwrap.dedent(text or "").replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    main()
