"""Several processes that train one model: who is first, and sums and gatherings over all of them."""

import os
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from voco2d.errors import Voco2dError


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


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if is_shared():
        distributed.barrier()


def first_does(action: Callable[[], None]) -> None:
    """Let the first process do something while the others wait.

    Raises:
        Voco2dError: Whatever the first raised, in the first; that it failed, in the others.
    """
    failure: Exception | None = None
    if is_first():
        try:
            action()
        except Exception as error:  # raised again below, after the others know
            failure = error
    told: list[bool] = [failure is not None]
    if is_shared():
        distributed.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[0]:
        raise Voco2dError("the first process stopped; its error says why")
