"""Computes the gradient of a loss over the whole batch while encoding it piece by piece, on any number of processes.

The units are encoded without a graph first; the loss of all of them gives each feature's gradient; then each piece is
encoded again with a graph and takes its part of that gradient (feature caching, GradCache: arXiv 2101.06983). The loss
is exactly that of the whole batch, and peak memory is that of one piece. Only batch norm sees a piece at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from voco2d.methods.method import Batch, Method, StepOutput
from voco2d.training.processes import add_up, gather, is_shared, own_rows

_CONTRAST, _STUDENT, _TEACHER, _UNITS = 0, 1, 2, 3
"""Streams of chance within a step."""


class Chance:
    """Sets torch's generators so that what they give is a function of the seed, the step and the place in the step.

    A run that goes on, a piece that is encoded twice, and processes that must agree all get the same draws. What a
    method draws for a unit by itself depends on `units`, so on no piece and no process; what a backbone draws of its
    own, which none of the presets' does, depends on both.

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

    def units(self, count: int) -> list[int]:
        """Return the seeds of this process's `count` units, each a function of its place among those of all."""
        first = self._rank * count
        seeds = np.random.SeedSequence((*self._key, _UNITS)).generate_state(first + count, np.uint64)
        return [int(seed) for seed in seeds[first:]]

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
    encoder = _Encoder(method, chance, chance.units(len(batch.units)))
    with fabric.autocast():
        encoded = encoder(pieces[0], 0, 0) if whole else _encode_without_graph(encoder, pieces)
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
        _encode_with_graph(encoder, pieces, gradient, fabric)
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


@dataclass(frozen=True)
class _Encoder:
    """Lets the student encode pieces of a batch, whatever their order, as often as need be."""

    method: Method
    chance: Chance
    seeds: Sequence[int]

    def __call__(self, piece: Tensor, index: int, first: int) -> Tensor:
        """Encode the piece of that index, whose first unit is the batch's `first`."""
        self.chance.student(index)
        return self.method.encode(piece, self.seeds[first : first + len(piece)])


def _numbered(pieces: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, int, int]]:
    """Yield each piece, its index, and how many units come before it."""
    first = 0
    for index, piece in enumerate(pieces):
        yield piece, index, first
        first += len(piece)


def _encode_without_graph(encoder: _Encoder, pieces: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad(), unchanged_statistics(encoder.method):
        return torch.cat([encoder(*numbered) for numbered in _numbered(pieces)])


def _encode_with_graph(encoder: _Encoder, pieces: tuple[Tensor, ...], gradient: Tensor, fabric: Fabric) -> None:
    for piece, index, first in _numbered(pieces):
        part = gradient[first : first + len(piece)]
        with fabric.autocast():
            encoded = encoder(piece, index, first)
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
