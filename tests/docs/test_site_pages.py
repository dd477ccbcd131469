"""The site's hook leads links to pages, and says of files that are none where they lie in the repository."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "tools" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[limits](docs/limits.md#what-is-not-known)", "[limits](limits.md#what-is-not-known)"),
        ("[pretraining](examples/pretrain_minimal.py)", "pretraining (`examples/pretrain_minimal.py`)"),
        ("[`pretrain_minimal.py`](examples/pretrain_minimal.py)", "`pretrain_minimal.py`"),
    ],
)
def test_links_lead_to_pages_or_name_the_file(hook: ModuleType, written: str, shown: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    files = [SimpleNamespace(src_uri="limits.md"), page.file]
    assert hook.on_page_markdown(written, page, files) == shown


def test_every_page_of_the_menu_has_a_name_of_its_own() -> None:
    entries = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].splitlines()
    names = [entry.strip(" -").rpartition(": ")[0] for entry in entries if entry.endswith(".md")]
    assert len(names) > 50
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith(("Its ", "Their "))]
    assert "navigation.indexes" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")  # hides a section's README
