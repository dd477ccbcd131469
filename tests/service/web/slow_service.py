"""A service by itself, whose network takes its time: `python slow_service.py STATE PORT`."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import Models, Slices
from voco2d.inference.settings import ModelSettings
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.server import serve
from voco2d.targets import TARGETS


class SlowRuntime:
    """Answers after a while."""

    name = "slow"
    sha256 = "0" * 64
    device = "cpu"
    feature_distance = None

    def logits(self, slices: Slices) -> Mapping[str, np.ndarray]:
        time.sleep(0.3)
        return {name: np.zeros(len(target.classes), np.float32) + slices.mean() for name, target in TARGETS.items()}


class StuckRuntime(SlowRuntime):
    """Never answers the first volume that any process gives it, and starts a program, whose id tells the next one."""

    def __init__(self, met: Path) -> None:
        self._met = met

    def logits(self, slices: Slices) -> Mapping[str, np.ndarray]:
        if not self._met.exists():
            self._met.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
            while True:
                pass
        return super().logits(slices)


def load_stuck(met: Path) -> tuple[Predictor, None]:
    return _predictor(StuckRuntime(met)), None


def load() -> tuple[Predictor, None]:
    return _predictor(SlowRuntime()), None


def _predictor(runtime: SlowRuntime) -> Predictor:
    settings = ModelSettings(preprocess=PreprocessArgs(size=(8, 32, 32)), readout=ReadoutArgs(slices=8, crop=32))
    return Predictor(Models([runtime], settings), gates="off")


if __name__ == "__main__":
    database = os.environ.get("VOCO2D_DATABASE", "")
    args = ServeArgs(Path(sys.argv[1]), port=int(sys.argv[2]), database=database, limits=UploadLimits(free_bytes=0))
    serve(args, load, partial(print, flush=True))
