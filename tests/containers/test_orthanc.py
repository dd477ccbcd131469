"""A real Orthanc with the configuration of the Compose file sends scans to the node, and never its results."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

FOLDER = Path(__file__).parents[2] / "containers" / "orthanc"
PATIENCE_S = 60.0

pytestmark = pytest.mark.integration


def program(name: str) -> str:
    path = shutil.which(name, path=f"/usr/bin:/usr/sbin:{os.environ['PATH']}")  # pynetdicom's have the same names
    if path is None:
        pytest.skip(f"no {name}; apt-get install orthanc dcmtk")
    return path


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing after {PATIENCE_S:g} s")


def write_series(folder: Path, slices: int) -> list[Path]:
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for number in range(slices):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientID, image.PatientName, image.Modality = "phantom", "Phantom", "CT"
        image.InstanceNumber = number + 1
        image.Rows = image.Columns = 16
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 1, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.PixelData = np.full((16, 16), number, np.int16).tobytes()
        paths.append(folder / f"{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


class Orthanc:
    """A running Orthanc: answers, and takes files."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.http, self.dicom, self.password = free_port(), free_port(), secrets.token_hex(16)
        settings = json.loads((FOLDER / "orthanc.json").read_text())
        settings |= {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "RemoteAccessAllowed": False,
            "StableAge": 1,
            "LuaHeartBeatPeriod": 1,
            "LuaScripts": [str(FOLDER / "route.lua")],
        }
        settings["DicomModalities"]["voco2d"] |= {"Host": "127.0.0.1", "Port": node_port}
        config = folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        given = {"ORTHANC_PASSWORD": self.password, "SCANNER_AET": "SCANNER", "SCANNER_HOST": "127.0.0.1"}
        self.log = folder / "orthanc.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [program("Orthanc"), str(config)], env={**os.environ, **given}, stdout=log, stderr=log
            )
        wait_for(self._is_up)

    def ask(self, path: str) -> Any:
        login = b64encode(f"voco2d:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", headers={"Authorization": f"Basic {login}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def store(self, calling: str, paths: list[Path]) -> bool:
        words = [program("storescu"), "-aet", calling, "-aec", "ORTHANC", "127.0.0.1", str(self.dicom)]
        return subprocess.run([*words, *map(str, paths)], capture_output=True, check=False).returncode == 0

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.ask("/jobs?expand"))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return bool(self.ask("/system"))
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, node_port: int) -> Iterator[Orthanc]:
    """One for all tests here: its start takes longer than they do."""
    running = Orthanc(tmp_path_factory.mktemp("orthanc"), node_port)
    yield running
    running.stop()


def start_node(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start DCMTK's store SCP in the place of `voco2d listen`."""
    folder.mkdir()
    words = [program("storescp"), "-aet", "VOCO2D", "-od", str(folder), str(port)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_strangers_are_turned_away(tmp_path: Path, orthanc: Orthanc) -> None:
    before = orthanc.ask("/instances")
    assert not orthanc.store("STRANGER", write_series(tmp_path / "scan", 1))
    assert orthanc.ask("/instances") == before
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{orthanc.http}/system", timeout=10)


@pytest.mark.slow
def test_scans_reach_the_node_even_if_that_was_away_and_results_are_not_sent_back(
    tmp_path: Path, orthanc: Orthanc, node_port: int
) -> None:
    assert orthanc.store("VOCO2D", write_series(tmp_path / "result", 1))
    scan = write_series(tmp_path / "scan", 6)
    assert orthanc.store("SCANNER", scan)
    wait_for(lambda: [job for job in orthanc.jobs() if job["State"] in ("Failure", "Retry")])
    wait_for(lambda: all(orthanc.ask(f"/series/{series}")["IsStable"] for series in orthanc.ask("/series")))
    assert len(orthanc.jobs()) == 1  # the result is as old as the scan: it would have a job, too
    node = start_node(tmp_path / "node", node_port)
    try:
        # Debian's Orthanc has no heart beat: the next series makes it try again
        next_scan = write_series(tmp_path / "next", 2)
        assert orthanc.store("SCANNER", next_scan)
        wait_for(lambda: len(list((tmp_path / "node").iterdir())) == len(scan) + len(next_scan))
        wait_for(lambda: all(job["State"] == "Success" for job in orthanc.jobs()))
    finally:
        node.terminate()
        node.wait(10)
    assert len(orthanc.ask("/instances")) == len(scan) + len(next_scan) + 1
