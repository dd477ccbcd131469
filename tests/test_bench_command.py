"""`voco2d bench`: options only where they apply, tables, and results for machines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voco2d.cli import main
from voco2d.commands import bench
from voco2d.training.bench_cost import RATIOS

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cost", "--reference", "x"], "voco2d bench cost: error: unrecognized arguments: --reference x"),
        (["pretrain", "--figure", "x.png"], "voco2d bench pretrain: error: unrecognized arguments: --figure x.png"),
        (["pretrain", "--quick"], "see voco2d bench pretrain --help"),
        (["cost", "--methods", "4d"], "invalid choice: '4d'"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "pretrain|cost"),
    ],
)
def test_wrong_words_show_the_usage_of_their_bench(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert "usage: voco2d bench" in error


@pytest.mark.parametrize("words", [["pretrain", "--steps", "0"], ["cost", "--rounds", "0"], ["cost", "--json", "/"]])
def test_impossible_settings_are_wrong_use(words: list[str], run: Run) -> None:
    code, _, error = run("bench", *words)
    assert code == 2
    assert error


def test_a_folder_that_is_no_checkout_is_told_before_anything_is_measured(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voco2d.training.bench_pretrain.run_alone", lambda *_: pytest.fail("measured first"))
    words = ["--slices", 1, "--batch-size", 1, "--steps", 1, "--warm-up", 0, "--reference", tmp_path]
    code, _, error = run("bench", "pretrain", *words)
    assert code == 2
    assert "give a checkout of the paper's code" in error


@pytest.mark.slow
def test_our_side_alone_is_measured(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "result.json"
    words = ["--slices", 1, "--batch-size", 2, "--steps", 1, "--warm-up", 0, "--chunk", 5, "--threads", 1]
    code, printed, _ = run("bench", "pretrain", *words, "--json", out)
    result = json.loads(out.read_text())
    assert code == 0
    assert "22 crops of 64 x 64 a step, 1 threads" in printed
    assert result["ours"]["seconds"] > 0
    assert result["ours"]["peak_bytes"] > 10**8
    assert result["settings"]["chunk"] == 5
    assert "time_ratio" not in result


def test_costs_make_a_table_and_a_file(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = dict.fromkeys(
        ("forward_seconds", "step_seconds", "step_cpu_seconds", "forward_flops", "step_flops", "encoder_parameters"), 2
    ) | {"forward_peak_bytes": 10**9, "step_peak_bytes": 3 * 10**9}
    taken: list[Any] = []

    def measured(args: Any) -> dict[str, Any]:
        taken.append(args)
        return {
            "quick": args.quick,
            "methods": dict.fromkeys(args.methods, cost),
            "ratios": dict.fromkeys(args.methods, dict.fromkeys(RATIOS, 1.0)),
        }

    monkeypatch.setattr(bench, "bench_cost", measured)
    words = ["--methods", "2d_b0", "3d_swin_b", "--quick", "--plain", "--threads", 1, "--json", tmp_path / "a.json"]
    code, printed, _ = run("bench", "cost", *words)
    assert code == 0
    assert taken[0].methods == ("2d_b0", "3d_swin_b")
    assert not taken[0].fast_cpu
    assert "3D Swin-B over 2D efficientnet_b0: time 1.00" in printed
    assert "3.00" in printed
    assert "say nothing about the methods" in printed
    assert json.loads((tmp_path / "a.json").read_text())["quick"]
