"""One of two processes that do things together; called with its number and a folder to meet in and write to."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import distributed

from voco2d.errors import ReadError, UsageError, Voco2dError
from voco2d.training.processes import all_do, all_there, first_does, gather, same_everywhere

rank, folder = int(sys.argv[1]), Path(sys.argv[2])


def succeed() -> int:
    return rank


def refuse() -> None:
    raise UsageError("batch_size=3 is odd")


def fail_first() -> None:
    if rank == 0:
        raise ReadError("scan.nii", "cut off")


def fail_second() -> None:
    if rank == 1:
        raise ReadError("scan.nii", "cut off")


def slip() -> int:
    return [][rank]


def meet() -> object:
    if rank == 1:
        return "gone"
    with all_there():
        return gather(torch.ones(1, 1))


CASES: Mapping[str, Callable[[], object]] = {
    "none": lambda: (all_do(succeed), same_everywhere(7, "the step")),
    "everywhere": lambda: all_do(refuse),
    "first": lambda: first_does(fail_first),
    "second": lambda: all_do(fail_second),
    "fault": lambda: all_do(slip),
    "differ": lambda: same_everywhere(rank + 7, "the step"),
    "gone": meet,
}


def outcome(case: Callable[[], object]) -> str:
    try:
        return str(case())
    except Voco2dError as error:
        return f"{type(error).__name__} {error.exit_code} {getattr(error, 'is_told', False)} {error}"
    except IndexError:
        return "IndexError"


distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
outcomes = {name: outcome(case) for name, case in CASES.items()}
(folder / f"{rank}.json").write_text(json.dumps(outcomes))
os._exit(0)  # gloo may abort a process at its end whose partner has gone before it, as in the last case
