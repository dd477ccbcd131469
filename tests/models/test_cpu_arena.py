import gc
import random
import sys

import pytest
import torch
from torch import Tensor

from voco2d.models import cpu_arena
from voco2d.models.cpu_arena import Arena

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch's own memory is used")
SIZE = 1 << 22


def test_ranges_never_overlap_and_all_come_back() -> None:
    arena, chance, alive = Arena(SIZE), random.Random(0), list[Tensor]()
    for number in range(2000):
        if alive and chance.random() < 0.5:
            alive.pop(chance.randrange(len(alive)))
            continue
        tensor = arena.take(4 * chance.randrange(1, 50_000))
        if tensor is not None:
            alive.append(tensor.fill_(number))
        assert all(before[1] < after[0] for before, after in zip(arena.free, arena.free[1:], strict=False))
    assert all(bool((tensor == tensor[0]).all()) for tensor in alive)
    del tensor
    alive.clear()
    gc.collect()
    assert arena.free == [(0, SIZE)]


def test_a_view_keeps_its_range() -> None:
    arena = Arena(SIZE)
    view = arena.take(SIZE).view(2, -1)[1]
    assert arena.free == []
    assert arena.take(4) is None
    del view
    assert arena.free == [(0, SIZE)]


def test_what_is_in_use_outlives_a_release() -> None:
    arena = Arena(SIZE)
    first, second = arena.take(SIZE // 2).fill_(1), arena.take(SIZE // 2).fill_(2)
    del first
    arena.release()
    assert bool((second == 2).all())
    assert bool((arena.take(SIZE // 2) == 0).all())


def test_without_an_arena_torch_gives_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for arena in (None, Arena(SIZE)):
        monkeypatch.setattr(cpu_arena, "_arena", lambda arena=arena: arena)
        tensor = cpu_arena.empty(3, 1 << 20)
        assert tensor.shape == (3, 1 << 20)
        assert tensor.dtype == torch.float32
