"""Computes the gradient of a loss over the whole batch while encoding it piece by piece, on any number of processes.

The units are encoded without a graph first; the loss of all of them gives each feature's gradient; then each piece is
encoded again with a graph and takes its part of that gradient (feature caching, GradCache: arXiv 2101.06983). The loss
is exactly that of the whole batch, and peak memory is that of one piece. Only batch norm sees a piece at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from voco2d.methods.method import Batch, Method, StepOutput
from voco2d.training.processes import add_up, gather, is_shared, own_rows

_CONTRAST, _STUDENT, _TEACHER = 0, 1, 2
"""Streams of chance within a step."""


class Chance:
    """Sets torch's generators so that what they give is a function of the seed, the step and the place in the step.

    A run that goes on, a piece that is encoded twice, and processes that must agree all get the same draws.

    Args:
        seed: Of the run.
        step: Of the run.
        rank: Of the process.
    """

    def __init__(self, seed: int, step: int, rank: int = 0) -> None:
        self._key = (seed, step)
        self._rank = rank

    def contrast(self) -> None:
        """Begin what every process does alike."""
        self._begin(_CONTRAST, 0, 0)

    def student(self, piece: int) -> None:
        """Begin the student's pass over a piece."""
        self._begin(_STUDENT, self._rank, piece)

    def teacher(self, piece: int) -> None:
        """Begin the teacher's pass over a piece."""
        self._begin(_TEACHER, self._rank, piece)

    def _begin(self, *place: int) -> None:
        state = np.random.SeedSequence((*self._key, *place)).generate_state(2, np.uint32)
        torch.manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def compute_gradients(method: Method, batch: Batch, fabric: Fabric, chunk: int, chance: Chance) -> StepOutput:
    """Leave the gradient of the loss of all processes' units in the parameters.

    Args:
        method: Networks and loss.
        batch: This process's batch.
        fabric: Precision and scale of gradients.
        chunk: Units that are encoded at a time; 0 takes all at once, which needs no second pass.
        chance: Source of all randomness of the step.

    Returns:
        What the method made of the batch; the loss is the whole batch's. Nobody has looked whether it is finite.
    """
    pieces = torch.split(batch.units, chunk) if chunk else (batch.units,)
    teacher = _teach(method, pieces, fabric, chance)
    whole = len(pieces) == 1
    with fabric.autocast():
        encoded = _encode(method, pieces[0], 0, chance) if whole else _encode_without_graph(method, pieces, chance)
    student = gather(encoded.detach()).requires_grad_()
    chance.contrast()
    with fabric.autocast():
        output = method.contrast(student, teacher, batch)
    fabric.backward(output.loss)
    assert student.grad is not None
    gradient = own_rows(student.grad)
    if whole:
        torch.autograd.backward(encoded, gradient.to(encoded.dtype))
    else:
        _encode_with_graph(method, pieces, gradient, fabric, chance)
    if is_shared():
        _share_gradients(method)
    return output


def _teach(method: Method, pieces: tuple[Tensor, ...], fabric: Fabric, chance: Chance) -> Tensor | None:
    taught = []
    for index, piece in enumerate(pieces):
        chance.teacher(index)
        with torch.no_grad(), fabric.autocast():
            features = method.teach(piece)
        if features is None:
            return None
        taught.append(features)
    return gather(torch.cat(taught))


def _encode(method: Method, piece: Tensor, index: int, chance: Chance) -> Tensor:
    chance.student(index)
    return method.encode(piece)


def _encode_without_graph(method: Method, pieces: tuple[Tensor, ...], chance: Chance) -> Tensor:
    with torch.no_grad(), unchanged_statistics(method):
        return torch.cat([_encode(method, piece, index, chance) for index, piece in enumerate(pieces)])


def _encode_with_graph(
    method: Method, pieces: tuple[Tensor, ...], gradient: Tensor, fabric: Fabric, chance: Chance
) -> None:
    parts = torch.split(gradient, [len(piece) for piece in pieces])
    for index, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
        with fabric.autocast():
            encoded = _encode(method, piece, index, chance)
        torch.autograd.backward(encoded, part.to(encoded.dtype))


def _share_gradients(method: Method) -> None:
    """Sum what comes from each process's own units; average what all have alike, so that they stay alike."""
    encoders: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in method.named_parameters():
        if parameter.grad is not None:
            mine = name.startswith(tuple(f"{encoder}." for encoder in method.ENCODERS))
            (encoders if mine else others).append(parameter.grad)
    add_up(encoders)
    add_up(others, mean=True)


@contextmanager
def unchanged_statistics(network: nn.Module) -> Iterator[None]:
    """Keep batch norm from remembering what it sees, while it still normalises by it."""
    norms = [module for module in network.modules() if getattr(module, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True  # type: ignore[assignment]
