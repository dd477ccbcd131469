"""Several processes that train one model: who is first, and sums and gatherings over all of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NoReturn, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from voco2d.errors import OtherProcessError, Voco2dError

T = TypeVar("T")

_GONE = ("closed by peer", "connection reset", "connection refused", "broken pipe", "remote process exited")
"""What gloo and NCCL say where another process is no longer there, in lower case."""


def is_first() -> bool:
    """Tell whether this is the process that prints and writes; true where there is only one."""
    if is_shared():
        return distributed.get_rank() == 0
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def is_shared() -> bool:
    """Tell whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gather(rows: Float[Tensor, "M F"]) -> Float[Tensor, "N F"]:
    """Return the rows of all processes in the order of the processes, without gradient; each has as many."""
    if not is_shared():
        return rows
    everyone = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, rows.contiguous())
    return torch.cat(everyone)


def own_rows(rows: Float[Tensor, "N F"]) -> Float[Tensor, "M F"]:
    """Return this process's part of what `gather` gave."""
    if not is_shared():
        return rows
    return rows.chunk(distributed.get_world_size())[distributed.get_rank()]


def add_up(gradients: Iterable[Tensor], mean: bool = False) -> None:
    """Put the sum, or the mean, over all processes in the place of each gradient, in one exchange a type."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for gradient in gradients:
        by_type.setdefault(gradient.dtype, []).append(gradient)
    for tensors in by_type.values():
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        if mean:
            flat /= distributed.get_world_size()
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def same_start(network: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if is_shared():
        for tensor in network.state_dict().values():
            distributed.broadcast(tensor, src=0)


def first_does(action: Callable[[], None]) -> None:
    """Let the first process do something while the others wait.

    Raises:
        Voco2dError: Whatever the first raised, in the first; OtherProcessError in the others.
    """
    all_do(action if is_first() else lambda: None)


def all_do(action: Callable[[], T]) -> T:
    """Do something in every process, and go on where all could; without it, the others would wait for one that failed.

    It must hold no exchange between processes.

    Raises:
        Voco2dError: What went wrong, in the first process, whichever it went wrong in; OtherProcessError in the others.
    """
    if not is_shared():
        return action()
    failure: Exception | None = None
    try:
        result = action()
    except Exception as error:  # raised again below, after the others know
        failure = error
    group = _host_group(distributed.group.WORLD)
    failures = torch.tensor(int(failure is not None))
    distributed.all_reduce(failures, group=group)
    if not failures:
        return result
    told: list[tuple[str, int] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(told, None if failure is None else _in_words(failure), group=group)
    if failure is not None and is_first():
        raise failure
    rank, (words, code) = next((rank, entry) for rank, entry in enumerate(told) if entry is not None)
    raise OtherProcessError(f"process {rank}: {words}", code, is_told=not is_first()) from failure


def same_everywhere(value: int, what: str) -> int:
    """Return what all processes have.

    Raises:
        Voco2dError: They differ.
    """
    if is_shared():
        everyone = [value] * distributed.get_world_size()
        distributed.all_gather_object(everyone, value, group=_host_group(distributed.group.WORLD))
        if len(set(everyone)) > 1:
            all_do(
                partial(_refuse, f"the processes differ in {what}: {', '.join(map(str, everyone))}; start them again")
            )
    return value


@contextmanager
def all_there() -> Iterator[None]:
    """Say in one sentence that another process has gone, where an exchange finds that out.

    Raises:
        OtherProcessError: It has.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's have no other common class
        if not is_shared() or not any(sign in str(error).lower() for sign in _GONE):
            raise
        raise OtherProcessError("another process stopped; its error, or the system's log, says why") from error


def leave() -> None:
    """Take leave of the other processes; gloo may abort a process that ends without."""
    _host_group.cache_clear()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@lru_cache(maxsize=1)
def _host_group(world: Any) -> Any:
    """Return the processes as a group that exchanges what lies on the host, so that no GPU is waited for."""
    return world if distributed.get_backend(world) == "gloo" else distributed.new_group(backend="gloo")


def _in_words(failure: Exception) -> tuple[str, int]:
    """Return a failure's message and exit code as the command line would tell them."""
    if isinstance(failure, Voco2dError):
        return str(failure), failure.exit_code
    if isinstance(failure, OSError):
        return f"{failure.filename}: {failure.strerror}", 1
    return f"unexpected {type(failure).__name__}", 1  # its words may hold identifiers


def _refuse(message: str) -> NoReturn:
    raise Voco2dError(message)
