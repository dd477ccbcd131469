"""A phantom study as a hospital has it, its answer, and free ports."""

import gc
import json
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE, Association

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.cohort_writer import write_cohort
from voco2d.inference.results import Finding, SeriesResult, StudyResult
from voco2d.service.audit import Audit
from voco2d.service.dicom_node import DicomNode
from voco2d.service.node_args import NodeArgs
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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[DicomNode, Spool]]]:
    """Start nodes that are closed at the end."""
    nodes = []

    def start_one(most_bytes: int = 10**9, port: int = 0, timeout_s: float = 5.0, **args: Any):
        spool = Spool(tmp_path / f"spool{len(nodes)}", most_bytes)
        node = DicomNode(NodeArgs(port=port, timeout_s=timeout_s, **args), spool, Audit(tmp_path / "audit.jsonl"))
        nodes.append((node, spool))
        return node, spool

    yield start_one
    for node, spool in nodes:
        node.close()
        spool.close()
    gc.collect()  # pynetdicom leaves sockets of broken associations to it; here that is no fault of another test


@pytest.fixture
def associate() -> Callable[..., Association]:
    """Call a node."""

    def call(node, *classes, title="ANY", called="VOCO2D", syntaxes=(RLELossless, ExplicitVRLittleEndian), **more):
        entity = AE(title)
        entity.connection_timeout = entity.acse_timeout = 10
        for sop_class in classes or (CTImageStorage,):
            for syntax in syntaxes:
                entity.add_requested_context(sop_class, syntax)
        return entity.associate("127.0.0.1", node.port, ae_title=called, **more)

    return call


ORTHANC = "/usr/sbin/Orthanc"


@dataclass
class Archive:
    """An Orthanc of this test's own."""

    web: str
    port: int
    password: str = ""

    def ask(self, path: str, body: object = None) -> bytes:
        """Ask its REST interface, past any proxy."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.web}{path}", data=data)
        if self.password:
            request.add_header("Authorization", "Basic " + b64encode(f"voco2d:{self.password}".encode()).decode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return bytes(answer.read())


@pytest.fixture
def wait() -> Callable[..., object]:
    """Wait until something is true; connections that fail are not yet."""

    def wait_for(what: Callable[[], object], seconds: float = 120) -> object:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := what():
                    return found
            except OSError:
                pass
            time.sleep(0.3)
        raise TimeoutError(f"nothing came in {seconds:g} s")

    return wait_for


@pytest.fixture
def start_archive(tmp_path: Path, free_port: Callable[[], int], wait: Callable[..., object]):
    """Start an Orthanc with further settings; with a password its user is voco2d."""
    programs = []

    def start(password: str = "", **more: object) -> Archive:
        if not Path(ORTHANC).exists():
            pytest.skip("Orthanc (Debian: orthanc) is not installed")
        found = Archive("", free_port(), password)
        web = free_port()
        found.web = f"http://127.0.0.1:{web}"
        folder = tmp_path / "orthanc"
        folder.mkdir()
        settings = {
            "HttpPort": web,
            "DicomPort": found.port,
            "DicomAet": "ORTHANC",
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "AuthenticationEnabled": bool(password),
            "RegisteredUsers": {"voco2d": password},
            "DicomAlwaysAllowStore": True,
            **more,
        }
        (tmp_path / "orthanc.json").write_text(json.dumps(settings))
        with (tmp_path / "orthanc.log").open("w") as log:
            programs.append(subprocess.Popen([ORTHANC, tmp_path / "orthanc.json"], stdout=log, stderr=log))
        wait(lambda: found.ask("/system"))
        return found

    yield start
    for program in programs:
        program.terminate()
        program.wait(30)


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
