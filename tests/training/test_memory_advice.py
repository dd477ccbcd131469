from dataclasses import replace

import pytest

from voco2d.methods.view_args import SimCLRArgs
from voco2d.methods.voco_args import VoCoArgs
from voco2d.training.memory_advice import for_batch, for_networks, for_probe, for_step
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.probe import ProbeArgs

ARGS = PretrainArgs(batch_size=4, method=VoCoArgs(slices=32, hidden=2048))
ONE_SLICE = replace(ARGS, method=VoCoArgs(slices=1))


@pytest.mark.parametrize(
    ("args", "units", "resident", "told"),
    [
        (ARGS, 44, False, "set chunk=22, and go on with --resume"),
        (ARGS, 44, True, "set chunk=22, or residency=disk, and go on with --resume"),
        (replace(ARGS, chunk=11), 44, False, "set chunk=5, and go on with --resume"),
        (replace(ARGS, chunk=99), 44, False, "set chunk=22, and go on with --resume"),
        (replace(ARGS, chunk=1), 44, True, "set residency=disk, and go on with --resume"),
        (replace(ARGS, chunk=1), 44, False, "set method.slices=16 in a new run"),
        (replace(ONE_SLICE, chunk=1), 44, False, "set a smaller backbone in a new run"),
    ],
)
def test_a_step(args: PretrainArgs, units: int, resident: bool, told: str) -> None:
    assert for_step(args, units, resident) == told


@pytest.mark.parametrize(
    ("args", "processes", "told"),
    [
        (ARGS, 1, "set batch_size=2 in a new run"),
        (replace(ARGS, batch_size=12), 4, "set batch_size=4 in a new run"),
        (ARGS, 4, "set method.slices=16 in a new run"),
        (replace(ARGS, batch_size=3), 1, "set method.slices=16 in a new run"),
        (replace(ARGS, batch_size=3, method=SimCLRArgs()), 1, "set batch_size=1 in a new run"),
        (replace(ONE_SLICE, batch_size=2), 1, "prepare volumes of a smaller size, and pretrain on them in a new run"),
    ],
)
def test_a_batch(args: PretrainArgs, processes: int, told: str) -> None:
    """2D-VoCo compares two volumes at least, and every process has as many."""
    assert for_batch(args, resident=False, processes=processes) == told
    assert for_batch(args, resident=True, processes=processes) == "set residency=disk, and go on with --resume"


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        (ProbeArgs(slices=16), "set probe.slices=8, and go on with --resume"),
        (ProbeArgs(slices=1, crop=192), "set probe.crop=96, and go on with --resume"),
        (ProbeArgs(slices=1, crop=64, patients=50), "set probe.patients=25, and go on with --resume"),
        (ProbeArgs(slices=1, crop=64, patients=10), "leave probe.labels out, and go on with --resume"),
    ],
)
def test_a_probe(probe: ProbeArgs, told: str) -> None:
    assert for_probe(replace(ARGS, probe=probe)) == told


def test_networks() -> None:
    assert for_networks(ARGS) == "set method.hidden=1024 or a smaller backbone in a new run"
