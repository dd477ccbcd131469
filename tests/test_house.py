"""The house rules that can be measured: lengths, import cycles, docstrings."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

import grimp
import pytest

import voco2d

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "voco2d").rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 250, 60
REASON = re.compile(r"# long: \S+ \S+")
"""What stands in a module, or in or above a function, that is longer."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_modules_are_short_or_say_why_not() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    long = [path for path, text in texts.items() if len(text.splitlines()) > MODULE_LINES]
    assert len(texts) > 250
    assert [str(path) for path in long if not REASON.search(texts[path])] == []
    assert len(long) <= 2, "a reason is for exceptions: split one of them"


def test_functions_are_short_or_say_why_not() -> None:
    long = []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in functions(path):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno >= FUNCTION_LINES:
                around = "\n".join(lines[max(node.lineno - 3, 0) : node.end_lineno])
                long.append((f"{path.name}: {node.name}", REASON.search(around) is not None))
    assert [name for name, has_reason in long if not has_reason] == []
    assert len(long) <= 2, "a reason is for exceptions: split one of them"


def test_there_is_no_import_cycle() -> None:
    graph = grimp.build_graph("voco2d", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 250
    tuple(TopologicalSorter(imports).static_order())  # raises CycleError, which names the modules


def test_every_public_name_has_a_docstring() -> None:
    """Names that begin with `_`, and what lies inside functions, are private."""
    missing = []
    for path in SOURCES:
        if path.name == "__main__.py":
            continue
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        names = [node for node in parsed(path).body if isinstance(node, kinds)]
        public = [node for node in names if not node.name.startswith("_")]
        bodies = [part for node in public if isinstance(node, ast.ClassDef) for part in node.body]
        public += [part for part in bodies if isinstance(part, kinds) and not part.name.startswith("_")]
        missing += (
            [f"{path.name}: {node.name}" for node in (parsed(path), *public) if not ast.get_docstring(node)]
            if public
            else []
        )
    assert missing == []


def documented() -> Iterator[tuple[str, Any]]:
    """Yield the functions, classes and methods of `voco2d.__all__` and of the reference page, by their names."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    names = [*re.findall(r"^::: (\S+)$", page, re.MULTILINE)]
    found = [(f"voco2d.{name}", getattr(voco2d, name)) for name in voco2d.__all__ if name != "__version__"]
    for name in names:
        try:
            found.append((name, importlib.import_module(name)))
        except ModuleNotFoundError:
            module, _, last = name.rpartition(".")
            found.append((name, getattr(importlib.import_module(module), last)))
    seen: set[int] = set()
    for name, item in found:
        for full, part in _parts(name, item):
            if id(part) not in seen:
                seen.add(id(part))
                yield full, part


def _parts(name: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, ModuleType):
        for key, part in vars(item).items():
            if not key.startswith("_") and getattr(part, "__module__", None) == item.__name__:
                yield from _parts(f"{name}.{key}", part)
    elif inspect.isclass(item):
        yield name, item
        for key, part in vars(item).items():
            if not key.startswith("_") and inspect.isfunction(inspect.unwrap(part)):
                yield f"{name}.{key}", part
    elif inspect.isfunction(inspect.unwrap(item)):
        yield name, item


def _said_above(name: str, item: Any) -> Iterator[str]:
    """Yield what the classes above say of a class, or of the method that an own one takes the place of."""
    if inspect.isclass(item):
        yield from (inspect.getdoc(base) or "" for base in item.__mro__[1:] if base.__module__.startswith("voco2d"))
    owner = DOCUMENTED.get(name.rpartition(".")[0])
    for base in owner.__mro__[1:] if inspect.isclass(owner) else ():
        part = vars(base).get(name.rpartition(".")[2])
        if base.__module__.startswith("voco2d") and part is not None:
            yield inspect.getdoc(inspect.unwrap(part)) or ""


_SHAPED = re.compile(r"Tensor|ndarray|tuple|DataFrame|Series|\bdict|Mapping|Float|Int")
"""Returned types that don't say by themselves what is in them."""
DOCUMENTED = dict(documented())


def test_the_reference_is_not_empty() -> None:
    assert len(DOCUMENTED) > 70


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_docstring_names_every_parameter_and_says_what_is_returned(name: str) -> None:
    item = inspect.unwrap(DOCUMENTED[name])
    assert inspect.getdoc(item), "no docstring"
    text = "\n".join([inspect.getdoc(item) or "", *_said_above(name, item)])
    signature = (
        inspect.signature(item) if not inspect.isclass(item) or is_dataclass(item) or "__init__" in vars(item) else None
    )
    parameters = [] if signature is None else [key for key in signature.parameters if key not in ("self", "cls")]
    if inspect.isclass(item) and (issubclass(item, Exception) or getattr(item, "_is_protocol", False)):
        parameters = []
    unnamed = [key for key in parameters if not re.search(rf"^\s+\**{key}: |`{key}`", text, re.MULTILINE)]
    summary = text.partition("\n")[0]
    if len(parameters) == 1 and "Args:" not in text:
        unnamed = []  # a function of one thing says in its first line what it does with it
    assert unnamed == [], summary
    returned = "" if inspect.isclass(item) or signature is None else str(signature.return_annotation)
    says = "Returns:" in text or "Yields:" in text or re.search(r"\b(Return|Yield)s?\b|\(.*\)|→", summary)
    assert says or not _SHAPED.search(returned), f"{summary} Say what is returned."
