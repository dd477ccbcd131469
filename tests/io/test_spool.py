"""Volumes larger than the limit lie on disk and leave memory when told to."""

import subprocess
import sys

import numpy as np

from voco2d.io.spool import allocate, fill, lowest, planes, release

MEASURE = """
import sys
import numpy as np
from voco2d.io.spool import allocate, planes, release
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
array = allocate((200, 512, 512), limit_bytes=0)
before = peak = resident()
for z in range(200):
    array[z] = z
    if z % 16 == 0:
        release(array)
    peak = max(peak, resident())
for z, plane in enumerate(planes(array, every_bytes=2**22)):
    assert plane.min() == plane.max() == z
    peak = max(peak, resident())
print((peak - before) // 2**20)
"""


def test_small_arrays_are_in_memory_and_large_ones_are_not():
    small, large = allocate((2, 3, 4)), allocate((2, 3, 4), limit_bytes=40)
    assert small.base is None
    assert large.base is not None
    assert large.shape == (2, 3, 4)
    assert large.dtype == np.int16


def test_content_survives_release_of_the_array_and_of_views():
    array = allocate((5, 300, 400), limit_bytes=0)
    array[:] = np.arange(5)[:, None, None]
    release(array)
    release(array[1:, ::-1, :7])
    assert [int(plane.max()) for plane in planes(array, every_bytes=1)] == [0, 1, 2, 3, 4]
    array[3, 0, 0] = -7
    release(array)
    assert lowest(array) == -7


def test_release_leaves_ordinary_arrays_alone():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    release(array)
    assert array.sum() == 276


def test_writing_and_walking_keep_few_pages_in_memory():
    """An array of 100 MiB: without the release all of it would count."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 30


def test_fill_writes_what_comes_and_lets_go_of_what_it_came_from():
    source = allocate((4, 30, 40), limit_bytes=0)
    source[:] = np.arange(4)[:, None, None]
    volume = fill((4, 30, 40), (plane + 0.0 for plane in source[:3]), source, every_bytes=1)
    assert volume.dtype == np.int16
    assert [int(plane.max()) for plane in volume] == [0, 1, 2]


def test_filling_from_a_volume_keeps_few_pages_of_either_in_memory(monkeypatch):
    let_go = []
    monkeypatch.setattr("voco2d.io.spool.release", let_go.append)
    source = np.zeros((6, 4, 4), np.int16)
    volume = fill((6, 4, 4), iter(source), source, every_bytes=64)
    assert len(let_go) == 6
    assert sum(array is source for array in let_go) == 3
    assert sum(np.shares_memory(array, volume) for array in let_go) == 3
