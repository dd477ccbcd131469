import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from voco2d.training.kernel_time import Kernel, covered, read_kernels, sum_up_kernels

TRACE = {
    "schemaVersion": 1,
    "traceEvents": [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 90.0, "dur": 400.0, "pid": 9, "tid": 9},
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 100.0, "dur": 50.0, "pid": 0, "tid": 7},
        {"ph": "X", "cat": "kernel", "name": "norm", "ts": 120.5, "dur": 79.5, "pid": 0, "tid": 20},
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 200.0, "dur": 100.0, "pid": 0, "tid": 7},
        {"ph": "X", "cat": "gpu_memset", "name": "Memset", "ts": 300.0, "dur": 10.0, "pid": 0, "tid": 7},
        {"ph": "X", "cat": "gpu_user_annotation", "name": "Optimizer.step", "ts": 0.0, "dur": 900.0, "tid": 7},
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 400.0, "dur": 100.0, "pid": 0, "tid": 7},
        {"ph": "f", "cat": "ac2g", "name": "ac2g", "ts": 400.0, "id": 3},
    ],
}
"""As torch's profiler writes it: times in microseconds; two streams, copies, annotations and launches besides."""


def test_kernels_alone_are_read() -> None:
    kernels = read_kernels(TRACE)
    assert [(kernel.name, kernel.begin, kernel.end) for kernel in kernels] == [
        ("gemm", 100.0, 150.0),
        ("norm", 120.5, 200.0),
        ("gemm", 400.0, 500.0),
    ]


def test_streams_that_overlap_count_once_and_names_are_summed() -> None:
    told = sum_up_kernels(read_kernels(TRACE), seconds=500e-6, steps=2)
    assert told["kernel_seconds"] == pytest.approx(100e-6)
    assert told["kernel_share"] == pytest.approx(200 / 500)
    assert told["profiled_seconds"] == pytest.approx(250e-6)
    assert [kernel["name"] for kernel in told["kernels"]] == ["gemm", "norm"]
    assert told["kernels"][0] == {"name": "gemm", "calls": 1.0, "share": pytest.approx(150 / 229.5)}
    assert len(sum_up_kernels(read_kernels(TRACE), 1.0, 1, most=1)["kernels"]) == 1


def test_without_kernels_the_share_is_nothing() -> None:
    told = sum_up_kernels([], seconds=1.0, steps=4)
    assert (told["kernel_share"], told["kernels"]) == (0.0, [])


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_the_union_is_that_of_counted_units(drawn: list[tuple[int, int]]) -> None:
    intervals = [(float(begin), float(begin + length)) for begin, length in drawn]
    units = {unit for begin, length in drawn for unit in range(begin, begin + length)}
    assert covered(intervals) == len(units)
    assert covered(reversed(intervals)) == len(units)


def test_a_kernel_within_another_adds_nothing() -> None:
    kernels = [Kernel("long", 0.0, 100.0), Kernel("short", 10.0, 20.0), Kernel("after", 100.0, 110.0)]
    assert sum_up_kernels(kernels, 110e-6, 1)["kernel_share"] == pytest.approx(1.0)


def test_this_torch_writes_traces_of_that_form(tmp_path: Path) -> None:
    """On a CPU, whose operators stand in for kernels."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.rand(64, 64) @ torch.rand(64, 64)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    text = (tmp_path / "trace.json").read_text().replace('"cpu_op"', '"kernel"')
    kernels = read_kernels(json.loads(text))
    assert "aten::matmul" in {kernel.name for kernel in kernels}
    assert all(kernel.end >= kernel.begin > 0 for kernel in kernels)
