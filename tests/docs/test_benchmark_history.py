"""The page of benchmarks says what the table says, and the table what the benchmarks say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_history.py"
REMEDY = "python tools/benchmark_history.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


history = load()
ROWS = history.read_history()


def test_the_committed_page_and_drawing_are_up_to_date() -> None:
    assert history.PAGE.read_text(encoding="utf-8") == history.page(ROWS), f"run {REMEDY}"
    assert history.digest(ROWS) in history.DRAWING.read_text(encoding="utf-8"), f"run {REMEDY}"


def test_the_newest_rows_are_what_the_benchmarks_say_now() -> None:
    newest = {(row.benchmark, row.figure): row.value for row in ROWS}
    now = {(figure.benchmark, figure.name): value for figure, value in history.current()}
    assert newest == now, f"commit the new result, then run {REMEDY} --append"


def test_a_commit_that_leaves_all_figures_as_they_were_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {"a": {"ratio": 2.0}, "b": {"ratio": 2.0, "renamed": 1}, "c": {"ratio": 3.0}, "d": {"ratio": 2.0}}

    def git(*words: str) -> str:
        if words[0] == "log":
            return "".join(f"{name} 2026-01-0{day}T00:00:00\n" for day, name in enumerate(commits, 1))
        return json.dumps(commits[words[1].partition(":")[0]])

    monkeypatch.setattr(history, "_git", git)
    monkeypatch.setattr(history, "FIGURES", (history.Figure("some", "ratio", "r.json", ("ratio",)),))
    assert [(row.commit, row.value) for row in history.committed()] == [("a", "2"), ("c", "3"), ("d", "2")]


def test_the_table_is_in_the_order_of_time_and_tells_change() -> None:
    assert [row.date for row in ROWS] == sorted(row.date for row in ROWS)
    assert len(ROWS) > len(history.FIGURES)


def test_another_row_would_be_missed_by_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figure = history.FIGURES[0]
    row = history.Row("2030-01-01T00:00", "abcdef0", figure.benchmark, figure.name, "0.1", figure.unit, "")
    assert "0.1 (2030-01-01, abcdef0)" in history.page([*ROWS, row])
    assert history.digest([*ROWS, row]) != history.digest(ROWS)
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.csv")
    history.write_history([*ROWS, row])
    assert history.read_history() == [*ROWS, row]
