"""A phantom study as a hospital has it, its answer, and free ports."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.cohort_writer import write_cohort
from voco2d.inference.results import Finding, SeriesResult, StudyResult
from voco2d.service.spool import Spool
from voco2d.targets import CLASS_COLUMNS, TARGETS


@pytest.fixture(scope="session")
def hospital_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one series with 12 to 24 images."""
    cohort = tmp_path_factory.mktemp("hospital") / "cohort"
    shares = {"two_series_share": 0.0, "incomplete_share": 0.0}
    args = PhantomArgs(size=64, mean_slices=17, masks=False, hospital=True, workers=1, **shares)
    write_cohort(cohort, 1, 3, args)
    return next((cohort / "train_images").glob("*/*"))


@pytest.fixture
def make_result(hospital_study: Path) -> Callable[..., StudyResult]:
    """Make the answer of `folds` networks, or that of a gate that refused."""

    def make(folds: int = 2, refused: str = "") -> StudyResult:
        header = dcmread(next(hospital_study.iterdir()), stop_before_pixels=True)
        rng = np.random.default_rng(0)
        rows = rng.uniform(0.1, 1, (folds, len(CLASS_COLUMNS))).astype(np.float32)
        for target in TARGETS.values():
            at = [CLASS_COLUMNS.index(column) for column in target.columns]
            rows[:, at] /= rows[:, at].sum(axis=1, keepdims=True)
        series = SeriesResult(
            header.PatientID,
            header.StudyInstanceUID,
            header.SeriesInstanceUID,
            "refuse",
            folds=None if refused else rows,
            findings=(Finding(refused, "shows a head", True),) if refused else (),
        )
        return StudyResult(header.PatientID, header.StudyInstanceUID, (series,))

    return make


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", 10**9, clock)
    yield spool
    spool.close()


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
