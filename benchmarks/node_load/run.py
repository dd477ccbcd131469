"""Pushes studies at the DICOM node by several clients at once, kills it in the middle, and counts what came of each.

    python benchmarks/node_load/run.py WORK_FOLDER [--studies 50] [--clients 8]

Needs DCMTK's `storescu` and the extra `dicom`. Results: `results.json` beside this file.
"""

import argparse
import json
import os
import platform
import queue
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import torch
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from voco2d.config import to_tree
from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.cohort_writer import write_cohort
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import CLASSIFIER_KIND, Classifier, ClassifierArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.targets import TARGETS
from voco2d.version import VERSION

HERE = Path(__file__).resolve().parent
STORESCU = "/usr/bin/storescu"
"""By path: pynetdicom installs a program of the same name."""
CORES = {0, 1}
BROKEN = 10
"""Each tenth study has pixels that end early: it has to be refused, with a reason."""


class Sink:
    """The archive: takes results in and knows which studies its reports are of."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str]] = []
        entity = AE("SINK")
        entity.supported_contexts = AllStoragePresentationContexts  # key images come along
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        dataset = event.dataset
        if dataset.SOPClassUID == Comprehensive3DSRStorage:
            self.reports.append((str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)))
        return 0


class Watched:
    """A program of several processes whose memory is looked at until it ends."""

    process: subprocess.Popen[Any]

    def __init__(self) -> None:
        self.peak_bytes = 0

    def watch(self) -> None:
        """Begin to look, once the process is there; `peak_bytes` is the most that all held together."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                process = psutil.Process(self.process.pid)
                sizes = [one.memory_info().rss for one in (process, *process.children(recursive=True))]
                self.peak_bytes = max(self.peak_bytes, sum(sizes))
            except psutil.Error:
                pass
            time.sleep(0.1)


class Node(Watched):
    """`voco2d listen` as a process that is killed and started again."""

    def __init__(self, work: Path, sink: Sink) -> None:
        super().__init__()
        self._work, self.port = work, _free_port()
        self.spool = work / "spool"
        self._words = [sys.executable, "-m", "voco2d", "listen", "--model", work / "run", "--spool", self.spool]
        self._words += ["--port", self.port, "--gates", "off", "--quiet-seconds", "3", "--device", "cpu"]
        self._words += ["--send-to", f"SINK@127.0.0.1:{sink.port}"]
        self.starts = 0
        self.start()
        self.watch()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.starts += 1
        log = self._work / f"node{self.starts}.log"
        with log.open("wb") as file:
            self.process = subprocess.Popen([str(word) for word in self._words], stdout=file, stderr=file)
        while b"listens" not in log.read_bytes():
            if self.process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)

    def kill(self) -> int:
        """Kill each of its processes without warning, start it again, and return how many there were."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self.process.wait()
        self.start()
        return len(family)

    def stop(self) -> str:
        """Ask it to end, and return what it says last."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        return (self._work / f"node{self.starts}.log").read_text()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask its ledger."""
        with closing(sqlite3.connect(f"file:{self.spool / 'node.sqlite'}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query).fetchall()

    def states(self) -> dict[str, int]:
        """Count studies and results by state."""
        return dict(
            self.ask(
                "SELECT state, count(*) FROM studies GROUP BY state "
                "UNION SELECT state, count(*) FROM outgoing GROUP BY state"
            )
        )


def main() -> None:
    """Make studies, push them, kill the node three times, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    os.sched_setaffinity(0, CORES & os.sched_getaffinity(0))
    studies = make_studies(options.work / "cohort", options.studies)
    make_run(options.work / "run")
    sink = Sink()
    node = Node(options.work, sink)
    begun = time.monotonic()
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for folder in studies.values():
        waiting.put(folder)
    tries: list[int] = []
    clients = [threading.Thread(target=push, args=(waiting, node, tries)) for _ in range(options.clients)]
    for client in clients:
        client.start()
    kills = {
        "receiving": _kill_when(node, lambda _: len(tries) >= options.studies // 4),
        "grading": _kill_when(node, lambda states: states.get("running", 0) and states.get("graded", 0) >= 3),
        "sending": _kill_when(node, lambda states: states.get("graded", 0) >= options.studies // 2),
    }
    for client in clients:
        client.join()
    pushed_s = time.monotonic() - begun
    while any(node.states().get(state) for state in ("receiving", "running", "waiting")):
        time.sleep(0.5)
    seconds = time.monotonic() - begun
    result = count(studies, node, sink)
    result |= {"clients": options.clients, "pushes": sum(tries), "processes_killed": kills, "node_starts": node.starts}
    result |= {"seconds_until_pushed": round(pushed_s), "seconds_until_answered": round(seconds)}
    result |= {"peak_rss_mb": round(node.peak_bytes / 1e6), "said_last": node.stop().splitlines()[-1]}
    result |= {"hardware": hardware(), "voco2d": VERSION}
    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    if result["in"] != result["out"] + result["refused"] or result["images_lost"]:
        raise SystemExit("something was lost")


def count(studies: dict[str, Path], node: Node, sink: Sink) -> dict[str, Any]:
    """Count what went in, what came out, and what was refused with which reason."""
    reported = {study for study, _ in sink.reports}
    kept = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in (node.spool / "images").glob("*/*")}
    sent = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for one in studies.values() for path in one.iterdir()}
    reasons = dict(node.ask("SELECT reason, count(*) FROM studies WHERE state = 'failed' GROUP BY reason"))
    return {
        "in": len(studies),
        "out": len(reported & set(studies)),
        "refused": sum(reasons.values()),
        "reasons": reasons,
        "reports_of_unknown_studies": len(reported - set(studies)),
        "reports_received": len(sink.reports),
        "reports_received_distinct": len(set(sink.reports)),
        "images_in": len(sent),
        "images_lost": len(sent - kept),
        "refusals_on_arrival": dict(node.ask("SELECT reason, count FROM refusals")),
    }


def push(waiting: "queue.SimpleQueue[Path]", node: Node, tries: list[int]) -> None:
    """Send studies until none is left; one that is not acknowledged as a whole is sent again, as scanners do."""
    while True:
        try:
            folder = waiting.get_nowait()
        except queue.Empty:
            return
        words = [STORESCU, "-to", "60", "+sd", "-xr", "-aec", "VOCO2D", "127.0.0.1", str(node.port), str(folder)]
        tried = 1
        while subprocess.run(words, capture_output=True, check=False).returncode:
            tried += 1
            time.sleep(0.5)
        tries.append(tried)


def make_studies(folder: Path, number: int) -> dict[str, Path]:
    """Write studies of one series; return study UID → folder."""
    if not folder.exists():
        shares = {"two_series_share": 0.0, "incomplete_share": 0.0}
        write_cohort(folder, number, 5, PhantomArgs(size=64, mean_slices=17, masks=False, hospital=True, **shares))
    found = {}
    for order, series in enumerate(sorted((folder / "train_images").glob("*/*"))):
        for path in series.iterdir():
            dataset = dcmread(path)
            if order % BROKEN == BROKEN - 1:
                dataset.PixelData = bytes.fromhex("feff00e0 00000000 feff00e0 40000000".replace(" ", "")) + b"\xff" * 64
                dataset.save_as(path, enforce_file_format=True)
        found[str(dataset.StudyInstanceUID)] = series
    return found


def make_run(folder: Path) -> None:
    """Write a small untrained classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    network = ClassifierArgs(backbone="test_efficientnet", hidden=8)
    torch.manual_seed(0)
    metadata = {
        "kind": CLASSIFIER_KIND,
        "classifier": to_tree(network),
        "preprocess": to_tree(PreprocessArgs(size=(8, 32, 32))),
        "readout": to_tree(ReadoutArgs(slices=4, crop=28)),
        "targets": {name: list(target.classes) for name, target in TARGETS.items()},
    }
    save_weights(folder / "fold_0.safetensors", Classifier(network).eval().state_dict(), metadata)


def hardware() -> dict[str, Any]:
    """Say what this ran on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _kill_when(node: Node, condition: Any) -> int:
    while not condition(node.states()):
        time.sleep(0.02)
    return node.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
