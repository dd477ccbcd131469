"""Volumes larger than the limit lie on disk and leave memory when told to."""

import subprocess
import sys

import numpy as np

from voco2d.io.spool import allocate, lowest, planes, release

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
