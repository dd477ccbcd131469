"""Fixtures every test may use."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from torch import nn

from voco2d.cli import main
from voco2d.config import to_tree
from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import Models
from voco2d.inference.settings import ModelSettings
from voco2d.inference.torch_runtime import TorchRuntime
from voco2d.models.aggregators import AggregatorArgs, MaxAggregator
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import CLASSIFIER_KIND, Classifier, ClassifierArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.targets import TARGETS


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two workers on two cores: more threads than that only fight each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real files, or skip the test where it is absent."""
    root = Path(os.environ.get("VOCO2D_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set VOCO2D_REAL_DATA")
    return root.resolve()


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Start processes, to be killed, that have all imports behind them: torch's and timm's take seconds each time.

    They have one thread, as the tests themselves: torch's sums depend on the number of threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["voco2d.cli", "voco2d.commands.pretrain", "voco2d.commands.study"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def no_pages() -> Iterator[None]:
    """Let trainings draw no page: it takes longer than a small training, and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for command in ("pretrain", "finetune"):
            patch.setattr(f"voco2d.commands.{command}.report_run", lambda run: run / "report.html")
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run one command and return its exit code, what it printed, and its error line."""

    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if "error:" in line]
        return code, printed.out, errors[-1] if errors else ""

    return command


@pytest.fixture
def make_run() -> Callable[[Path], Path]:
    """Write a run of one small untrained classifier that sees 4 slices of (8, 32, 32) voxels."""

    def make(folder: Path) -> Path:
        network = ClassifierArgs(backbone="test_efficientnet", hidden=8)
        torch.manual_seed(0)
        metadata = {
            "kind": CLASSIFIER_KIND,
            "classifier": to_tree(network),
            "preprocess": to_tree(PreprocessArgs(size=(8, 32, 32))),
            "readout": to_tree(ReadoutArgs(slices=4, crop=28)),
            "targets": {name: list(target.classes) for name, target in TARGETS.items()},
        }
        folder.mkdir(parents=True)
        save_weights(folder / "fold_0.safetensors", Classifier(network).eval().state_dict(), metadata)
        return folder

    return make


WINDOW_HU = (1000.0, 2000.0)


class Brightness(nn.Module):
    """A backbone of one feature: how bright cells of 4 x 4 pixels are."""

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return (nn.functional.avg_pool2d(slices, 4) - 0.05).relu()


@pytest.fixture(scope="session")
def bright_classifier() -> Classifier:
    """Make a network that grades any target by the brightest slice, so that everyone knows what it must look at."""
    network = Classifier(ClassifierArgs(backbone="test_efficientnet", aggregator="max")).eval()
    network.backbone = Brightness()
    network.aggregator = MaxAggregator(1, AggregatorArgs())
    for name, target in TARGETS.items():
        head = nn.Linear(1, len(target.classes))
        nn.init.zeros_(head.bias)
        head.weight.data = torch.arange(len(target.classes), dtype=torch.float32)[:, None] * 50
        network.heads[name] = head
    return network.requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def bright_predictor(bright_classifier: Classifier) -> Callable[..., Predictor]:
    """Make a predictor of that network alone, without gates; its window begins above bone."""

    def make(preprocess: PreprocessArgs | None = None, readout: ReadoutArgs | None = None) -> Predictor:
        settings = ModelSettings(
            preprocess=preprocess or PreprocessArgs(size=(20, 48, 48)),
            readout=readout or ReadoutArgs(20, 40, WINDOW_HU),
        )
        runtime = TorchRuntime(bright_classifier, torch.device("cpu"), "fp32", "bright", "0" * 64, None)
        return Predictor(Models([runtime], settings), gates="off")

    return make
