"""Runs one measurement in a process of its own, so that its peak memory is nobody else's: both ends of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from voco2d.errors import UsageError, Voco2dError
from voco2d.memory import is_out_of_memory


def run_alone(module: str, order: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Start a module with an order and return its answer.

    Args:
        module: Its full name; it takes the order as JSON from its only argument, and the last line it prints is its
            answer as JSON, or {"error": why}.
        order: What it is asked.
        threads: Threads of its numerical libraries.

    Raises:
        UsageError: It failed; the message says why.
    """
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = {**os.environ, **limits, "OMP_WAIT_POLICY": "PASSIVE"}
    words = [sys.executable, "-m", module, json.dumps(order)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        killed = "; was it killed for want of memory?" if done.returncode == -9 else ""
        raise UsageError(f"{module} ended with code {done.returncode}: {last}{killed}") from None
    if "error" in answer:
        raise UsageError(str(answer["error"]))
    return answer


def answer(measure: Callable[[dict[str, Any]], Mapping[str, Any]], way_out: str) -> None:
    """Be the module that `run_alone` starts: print what is measured, or why not.

    Args:
        measure: Takes the order.
        way_out: What takes less memory; told where that runs out.
    """
    try:
        told = measure(json.loads(sys.argv[1]))
    except Voco2dError as error:
        told = {"error": str(error)}
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        told = {"error": f"memory ran out; {way_out}"}
    sys.stdout.write(f"\n{json.dumps(told)}\n")
