"""The GPU mode of `bench pretrain` as far as no GPU is needed: its arithmetic, its table, and that one is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from voco2d.commands.bench_table import gpu_table
from voco2d.errors import UsageError
from voco2d.training import bench_pretrain as module
from voco2d.training import bench_worker
from voco2d.training.bench_card import measure_card
from voco2d.training.bench_gpu import compare_sides, sum_up_side
from voco2d.training.bench_pretrain import CARD, OURS, BenchArgs, bench_pretrain
from voco2d.training.kernel_time import Kernel

CARD_FOUND = {"name": "A card", "matmul_flops_per_second": 8e14, "copy_bytes_per_second": 4e12}


def measured(seconds: list[float], peak: int, precision: str) -> dict[str, Any]:
    """What a side's process answers."""
    return {
        "precision": precision,
        "seconds": seconds,
        "cpu_seconds": [2 * each for each in seconds],
        "peak_bytes": peak,
        "peak_reserved_bytes": peak + 10**9,
        "kernel_seconds": 0.9 * seconds[0],
        "kernel_share": 0.9,
        "profiled_seconds": seconds[0],
        "kernels": [{"name": "void gemm<half>", "calls": 12.0, "share": 0.75}],
        "step_flops": 4 * 10**12,
        "step_traffic_bytes": 10**11,
    }


def answers(name: str, order: dict[str, Any], threads: int) -> dict[str, Any]:
    """Be the processes of a machine with a GPU."""
    assert threads == 2
    if name == CARD:
        return dict(CARD_FOUND, device=order["device"])
    return measured([0.05, 0.04, 0.06], 2 * 10**9, "bf16") if name == OURS else measured([0.25], 8 * 10**9, "fp16")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "run_alone", answers)


def test_rates_and_shares_are_those_of_the_median_step() -> None:
    side = sum_up_side([measured([0.05, 0.04], 10, "bf16"), measured([0.06, 0.05], 20, "bf16")], CARD_FOUND)
    assert side["seconds"] == pytest.approx(0.05)
    assert side["steps_per_second"] == pytest.approx(20.0)
    assert side["flops_per_second"] == pytest.approx(8e13)
    assert side["matmul_share"] == pytest.approx(0.1)
    assert side["traffic_bytes_per_second"] == pytest.approx(2e12)
    assert side["bandwidth_share"] == pytest.approx(0.5)
    assert (side["peak_bytes"], side["peak_reserved_bytes"]) == (20, 20 + 10**9)
    assert side["steps_seconds"] == [0.05, 0.04, 0.06, 0.05]


def test_ratios_are_ours_over_the_references() -> None:
    ours, reference = (
        sum_up_side([measured([seconds], peak, "")], CARD_FOUND)
        for seconds, peak in ((0.05, 2 * 10**9), (0.25, 8 * 10**9))
    )
    ratios = compare_sides(ours, reference)
    assert ratios["speed_ratio"] == pytest.approx(5.0)
    assert ratios["time_ratio"] == pytest.approx(0.2)
    assert ratios["memory_ratio"] == pytest.approx(0.25)
    assert ratios["reserved_ratio"] == pytest.approx(3 / 9)


@pytest.mark.usefixtures("gpu")
def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "voco_head.py").touch()
    words = ["--device", "cuda", "--threads", 2, "--reference", tmp_path, "--json", tmp_path / "gpu.json"]
    code, printed, error = run("bench", "pretrain", *words)
    assert (code, error) == (0, "")
    rows = {line[:20].strip(): line[20:].split() for line in printed.splitlines()}
    assert rows["precision"] == ["bf16", "fp16"]
    assert rows["steps a second"] == ["20.00", "4.00", "5.000"]
    assert rows["GB peak allocated"] == ["2.00", "8.00", "0.250"]
    assert rows["time in kernels"] == ["90.0%", "90.0%"]
    assert rows["of the matrix rate"] == ["10.0%", "2.0%"]
    assert "A card: 800 TFLOP/s in bf16 matrix products, 4000 GB/s copying" in printed
    assert "75.0%     12.0 x  void gemm<half>" in printed
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["card"]["device"] == "cuda"
    assert result["settings"]["device"] == "cuda"
    assert result["ours"]["precision"] == "bf16"
    assert {"time_ratio", "memory_ratio", "speed_ratio"} <= result.keys()


@pytest.mark.usefixtures("gpu")
def test_our_side_alone_has_no_ratio() -> None:
    result = bench_pretrain(BenchArgs(device="cuda"), None)
    assert "speed_ratio" not in result
    assert not any("ratio" in line for line in gpu_table(result))


def test_without_a_gpu_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, printed, error = run("bench", "pretrain", "--device", "cuda")
    assert (code, printed) == (2, "")
    assert error.endswith("--device cuda: torch sees no GPU here; leave --device out to measure on the CPU")
    with pytest.raises(UsageError, match="sees no GPU"):
        bench_pretrain(BenchArgs(device="cuda"), None)


def test_a_card_is_measured_whatever_it_is() -> None:
    card = measure_card(torch.device("cpu"), side=64, count=2**16, rounds=2)
    assert card["name"] == "cpu"
    assert card["matmul_flops_per_second"] > 0
    assert card["copy_bytes_per_second"] > 0


def test_a_side_measures_what_is_summed_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All but the GPU's own clockwork runs; peaks are taken before the close look, which takes memory itself."""
    done: list[str] = []

    def build(args: BenchArgs, folder: str) -> Callable[[], None]:
        assert (args.device, folder) == ("cuda", "f")
        weight = torch.rand(4, 4, requires_grad=True)

        def step() -> None:
            done.append("step")
            (torch.rand(2, 4) @ weight).sum().backward()

        return step

    def peak(**_: bool) -> int:
        done.append("peak")
        return 7

    def profiled(step: Callable[[], None], steps: int) -> tuple[list[Kernel], float]:
        done.append("profile")
        step()
        return [Kernel("k", 0.0, 5e5)], 1.0 * steps

    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 9)
    monkeypatch.setattr(bench_worker, "peak_bytes", peak)
    monkeypatch.setattr(bench_worker, "profile_kernels", profiled)
    order = {"args": vars(BenchArgs(device="cuda", steps=2, warm_up=1, threads=1)), "folder": "f"}
    monkeypatch.setattr("sys.argv", ["worker", json.dumps(order)])
    bench_worker.report(build, "bf16")
    side = json.loads(capsys.readouterr().out)
    assert done == ["step"] * 11 + ["peak", "profile"] + ["step"] * 3
    assert len(side["seconds"]) == 5
    assert side["step_flops"] == 2 * 2 * (2 * 4 * 4)  # forward, and backward to the weight
    assert side["kernel_share"] == 0.25
    summed = sum_up_side([side], CARD_FOUND)
    assert (summed["peak_bytes"], summed["peak_reserved_bytes"], summed["precision"]) == (7, 9, "bf16")
    assert summed["bandwidth_share"] > 0
