"""Where the records of a run go besides `metrics.jsonl`: TensorBoard, MLflow, Weights & Biases."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from voco2d.config import Tree
from voco2d.errors import UsageError
from voco2d.training.run_dir import Record
from voco2d.training.trackers import MlflowWriter, WandbWriter, import_tracker

WriterName = Literal["tensorboard", "mlflow", "wandb"]

TENSORBOARD_NAME = "tensorboard"
"""The folder of TensorBoard's events in a run folder."""
_LOW, _HIGH = -1.0, 1.0
"""Ends of the histograms, which are of cosines."""


class RecordWriter(Protocol):
    """Takes the records of a run, in their order."""

    def log(self, record: Record) -> None:
        """Take in a record; it has `step`."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoardWriter:
    """Events for TensorBoard below a run folder: numbers as scalars, texts as texts, shares in bins as histograms.

    Args:
        run: The run folder.
        start: Steps done; events of later steps, left by an attempt that was broken off, are dropped by readers.
    """

    def __init__(self, run: Path, start: int) -> None:
        tensorboard: Any = import_module("torch.utils.tensorboard")
        self._writer: Any = tensorboard.SummaryWriter(
            str(run / TENSORBOARD_NAME), purge_step=start + 1 if start else None
        )

    def log(self, record: Record) -> None:
        """Take in a record and write it at once, so that an abort loses nothing."""
        step = record["step"]
        for key, value in record.items():
            if isinstance(value, str):
                self._writer.add_text(key, value, step)
            elif isinstance(value, int | float):
                if key != "step" and math.isfinite(value):
                    self._writer.add_scalar(key, value, step)
            elif value is not None:
                self._writer.add_histogram_raw(key, global_step=step, **_binned(value))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


_WRITERS: Final[Mapping[str, Callable[[Path, Tree, int], RecordWriter]]] = {
    "tensorboard": lambda run, _, start: TensorBoardWriter(run, start),
    "mlflow": lambda run, config, _: MlflowWriter(run, config),
    "wandb": lambda run, config, _: WandbWriter(run, config),
}
_INSTALLS: Final[Mapping[str, str]] = {
    "tensorboard": "pip install tensorboard",
    "mlflow": 'pip install "voco2d[tracking]"',
    "wandb": 'pip install "voco2d[tracking]"',
}


def check_writers(names: Sequence[WriterName]) -> None:
    """Import what the writers need, before anything is written.

    Raises:
        UsageError: A package is not installed.
    """
    for name in names:
        try:
            import_module("torch.utils.tensorboard") if name == "tensorboard" else import_tracker(name)
        except ImportError as error:
            way_out = f"install it with {_INSTALLS[name]}, or leave {name} out of writers"
            raise UsageError(f"writers={name} needs a package that is not installed; {way_out}") from error


@contextmanager
def open_writers(
    names: Sequence[WriterName], run: Path, config: Tree, start: int
) -> Iterator[Callable[[Record], None]]:
    """Open writers for a run that starts or goes on, and close them at the end, however that comes.

    Args:
        names: Which.
        run: The run folder.
        config: Plain values of the configuration.
        start: Steps done.

    Yields:
        A function that hands a record to all of them.

    Raises:
        UsageError: As `check_writers`.
    """
    check_writers(names)
    with ExitStack() as stack:
        writers = []
        for name in dict.fromkeys(names):
            writers.append(_WRITERS[name](run, config, start))
            stack.callback(writers[-1].close)

        def log(record: Record) -> None:
            for writer in writers:
                writer.log(record)

        yield log


def _binned(shares: Sequence[float]) -> dict[str, Any]:
    """Describe shares in equal bins of −1…1 as TensorBoard's histograms do."""
    width = (_HIGH - _LOW) / len(shares)
    centers = [_LOW + (bin_ + 0.5) * width for bin_ in range(len(shares))]
    return {
        "min": _LOW,
        "max": _HIGH,
        "num": math.fsum(shares),
        "sum": math.fsum(share * center for share, center in zip(shares, centers, strict=True)),
        "sum_squares": math.fsum(share * center**2 for share, center in zip(shares, centers, strict=True)),
        "bucket_limits": [_LOW + (bin_ + 1) * width for bin_ in range(len(shares))],
        "bucket_counts": list(shares),
    }
