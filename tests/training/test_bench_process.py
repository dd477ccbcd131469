import sys
from pathlib import Path
from typing import Any

import pytest

from voco2d.errors import UsageError
from voco2d.training.bench_clock import peak_bytes, timed
from voco2d.training.bench_process import answer, run_alone


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes a module that answers orders with a line of code."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def make(line: str) -> str:
        text = f"from voco2d.errors import UsageError\nfrom voco2d.training.bench_process import answer\n{line}\n"
        (tmp_path / "worker_of_a_test.py").write_text(text)
        return "worker_of_a_test"

    return make


def test_an_answer_comes_back(module: Any) -> None:
    name = module("print('noise')\nanswer(lambda order: {'doubled': 2 * order['n']}, '')")
    assert run_alone(name, {"n": 4}, threads=1) == {"doubled": 8}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("def f(_):\n    raise UsageError('wrong folder')\nanswer(f, '')", "^wrong folder$"),
        ("def f(_):\n    raise MemoryError\nanswer(f, 'take less')", "^memory ran out; take less$"),
        ("import os\nos._exit(3)", "worker_of_a_test ended with code 3: no message"),
        ("import os\nos.kill(os.getpid(), 9)", "was it killed for want of memory"),
        ("raise ValueError('odd')", "ended with code 1: ValueError: odd"),
    ],
)
def test_a_failure_is_one_sentence(module: Any, line: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        run_alone(module(line), {}, threads=1)


def test_other_faults_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_order: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sys, "argv", ["worker", "{}"])
    with pytest.raises(RuntimeError, match="shapes differ"):
        answer(fails, "")


def test_clocks_and_memory_move() -> None:
    before = peak_bytes()
    seconds, cpu_seconds = timed(lambda: sum(range(10**6)))
    assert seconds > 0
    assert cpu_seconds > 0
    assert peak_bytes() >= before > 10**7
