"""Counts the bytes that torch's operators read and write, as if none of them were fused."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def count_traffic(work: Callable[[], object]) -> int:
    """Do some work and return the bytes its operators read and wrote, each tensor once an operator.

    A view moves nothing, and of a tensor that repeats its values only what is stored counts. What an operator needs
    in between does not count, and what stays in a cache from one operator to the next counts all the same: a GPU's
    memory may see more or less.

    Args:
        work: Is done once.
    """
    traffic = _Traffic()
    with traffic:
        work()
    return traffic.bytes


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        given = kwargs or {}
        result = func(*args, **given)
        if func.is_view or func.namespace != "aten":
            return result
        named = dict(zip((entry.name for entry in func._schema.arguments), args, strict=False)) | given
        inputs = [leaf for value in named.values() for leaf in _tensors(value)]
        written = [
            leaf
            for entry in func._schema.arguments
            if entry.alias_info is not None and entry.alias_info.is_write
            for leaf in _tensors(named.get(entry.name))
        ]
        known = {id(leaf) for leaf in inputs}
        fresh = [leaf for leaf in _tensors(result) if id(leaf) not in known]
        self.bytes += sum(map(_stored_bytes, (*inputs, *written, *fresh)))
        return result


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _stored_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values, those along an expanded axis once."""
    count = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= length if stride or not length else 1
    return count * tensor.element_size()
