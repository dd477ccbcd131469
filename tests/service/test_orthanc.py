"""The whole way with the programs of a hospital: storescu → Orthanc → node → Orthanc, checked by dciodvfy."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from highdicom.sr import srread

PROGRAMS = {"Orthanc": "/usr/sbin/Orthanc", "storescu": "/usr/bin/storescu", "dciodvfy": "/usr/bin/dciodvfy"}
"""By path: pynetdicom installs a `storescu` of its own."""
missing = [name for name, path in PROGRAMS.items() if not Path(path).exists()]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed (Debian: orthanc dcmtk dicom3tools)"),
]


@pytest.fixture
def node_port(free_port) -> int:
    return free_port()


@pytest.fixture
def archive(start_archive, node_port):
    return start_archive(DicomModalities={"node": ["VOCO2D", "127.0.0.1", node_port]})


@pytest.fixture
def start_node(make_run, tmp_path, node_port, archive, wait) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    run = make_run(tmp_path / "run")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        words = [
            "listen",
            "--model",
            run,
            "--spool",
            tmp_path / "spool",
            "--port",
            node_port,
            "--pdf",
            "--gates",
            "off",
        ]
        words += ["--quiet-seconds", 2, "--send-to", f"ORTHANC@127.0.0.1:{archive.port}"]
        log = (tmp_path / f"node{len(started)}.log").open("wb")
        started.append(subprocess.Popen([sys.executable, "-m", "voco2d", *map(str, words)], stdout=log, stderr=log))
        log.close()
        told = tmp_path / f"node{len(started) - 1}.log"
        wait(lambda: b"listens" in told.read_bytes())
        return started[-1]

    yield start
    for program in started:
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
            program.wait(60)


def _series(archive) -> dict[str, dict]:
    listed = [json.loads(archive.ask(f"/series/{name}")) for name in json.loads(archive.ask("/series"))]
    return {entry["MainDicomTags"]["Modality"]: entry for entry in listed}


@pytest.mark.timeout(600)
def test_a_report_comes_back_into_the_study_even_if_the_node_is_killed_before_it_is_graded(
    archive, start_node, hospital_study, tmp_path, wait
):
    node = start_node()
    store = [PROGRAMS["storescu"], "+sd", "-xr", "-aec", "ORTHANC", "127.0.0.1", str(archive.port), str(hospital_study)]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    subprocess.run(store, check=True, timeout=60, env=environment)
    (study,) = json.loads(archive.ask("/studies"))
    archive.ask("/modalities/node/store", study)
    node.kill()
    node.wait(30)
    start_node()
    wait(lambda: {"SR", "DOC", "OT"} <= set(_series(archive)) and len(_series(archive)["OT"]["Instances"]) == 5)
    series = _series(archive)
    assert {entry["ParentStudy"] for entry in series.values()} == {study}
    images = series["CT"]["Instances"]
    (instance,) = series["SR"]["Instances"]
    report = tmp_path / "sr.dcm"
    report.write_bytes(archive.ask(f"/instances/{instance}/file"))
    stored = {json.loads(archive.ask(f"/instances/{name}"))["MainDicomTags"]["SOPInstanceUID"] for name in images}
    groups = srread(report).content.get_image_measurement_groups()
    for group in groups:
        assert {str(image.referenced_sop_instance_uid) for image in group.source_images} <= stored
        assert group.source_images
    verdict = subprocess.run([PROGRAMS["dciodvfy"], "-new", report], capture_output=True, text=True, check=False)
    assert "Error" not in verdict.stderr
    told = (
        b"".join(path.read_bytes() for path in tmp_path.glob("node*.log"))
        + (tmp_path / "spool/audit.jsonl").read_bytes()
    )
    assert b"Phantom" not in told
    assert b"1.2.123.12345" not in told
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
