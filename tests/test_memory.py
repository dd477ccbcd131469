import errno
import mmap
import subprocess
import sys

import numpy as np
import pytest
import torch

from voco2d.errors import DeviceMemoryError, StoreError
from voco2d.memory import enough_memory, is_out_of_memory

TOO_MUCH = 10**15


def numpy_runs_out() -> None:
    np.empty(TOO_MUCH, dtype=np.float64)


def torch_runs_out() -> None:
    torch.empty(TOO_MUCH)


def a_map_runs_out() -> None:
    mmap.mmap(-1, TOO_MUCH)


def a_gpu_runs_out() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def pinned_memory_runs_out() -> None:
    raise RuntimeError("CUDA error: out of memory")


def a_library_runs_out() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    "runs_out",
    [
        numpy_runs_out,
        torch_runs_out,
        a_map_runs_out,
        a_gpu_runs_out,
        pinned_memory_runs_out,
        a_library_runs_out,
    ],
)
def test_every_way_of_running_out_is_one_sentence(runs_out: object) -> None:
    assert callable(runs_out)
    with pytest.raises(DeviceMemoryError) as told, enough_memory("in a test", "set chunk=1"):
        runs_out()
    assert str(told.value) == "memory has run out in a test; set chunk=1"
    assert told.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "no space left"),
        StoreError("damaged"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as told, enough_memory("in a test", "set chunk=1"):
        raise error
    assert told.value is error


def test_what_was_kept_from_the_collector_is_collected_at_the_end() -> None:
    """Libraries that count what is left complained at the end of every prediction (nanobind: leaked … instances)."""
    code = (
        "import atexit, gc\n"
        "from voco2d.memory import freeze_loaded\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"  # called last: handlers run in reverse
        "freeze_loaded()\n"
        "print(gc.get_freeze_count() > 0)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["True", "0"]
