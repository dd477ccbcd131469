"""Groups of processes: what a process that grades has started ends with it."""

import os
import signal
from contextlib import suppress


def lead_group() -> None:
    """Have this spawned process lead a group of its own, to which whatever it starts belongs.

    A terminal's Ctrl-C does not reach the group: the parent ends it.
    """
    os.setsid()


def kill_group(leader: int | None) -> None:
    """Kill all that is left of the group of a process, whether that has ended or not.

    To be called soon after the process was waited for: the system gives its number away again some time.

    Args:
        leader: Id of the process; None for one that was never begun.
    """
    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left, or it ended before it led any
            os.killpg(leader, signal.SIGKILL)
