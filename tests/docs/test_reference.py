"""The generated reference says what the program does."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load("reference")
PAGES = reference.pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_committed_page_is_up_to_date(name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == PAGES[name], f"docs/reference/{name} is out of date: run python tools/reference.py"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in PAGES["config.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.rstrip("| ").endswith("`")] == []


def test_defaults_are_those_of_the_command_and_not_of_the_section() -> None:
    pretrain = PAGES["config.md"].partition("## pretrain")[2].partition("## finetune")[0]
    assert "| `optim.lr` | `0.0003` |" in pretrain  # OptimArgs by itself has 0.001
