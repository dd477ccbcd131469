"""Uploads studies to the web service by several clients at once, kills its processes in the middle, counts what came.

    python benchmarks/web_load/run.py WORK_FOLDER [--studies 50] [--clients 8]

Needs the extra `serve`. Results: `results.json` beside this file.
"""

import argparse
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node_load"))
from run import CORES, Watched, hardware, make_run, make_studies
from voco2d.version import VERSION

HERE = Path(__file__).resolve().parent
TOKEN = "a-token-of-the-benchmark"
PORT_WORDS = re.compile(rb"serving on (http://[^/]+)/")


class Server(Watched):
    """`voco2d serve` as processes that are killed and started again, always on one port."""

    def __init__(self, work: Path) -> None:
        super().__init__()
        self._work, self.starts = work, 0
        self.address, self._port = "", "0"
        self.start()
        self.watch()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.starts += 1
        log = self._work / f"serve{self.starts}.log"
        words = [sys.executable, "-m", "voco2d", "serve", "--model", self._work / "run", "--device", "cpu"]
        words += ["--state", self._work / "state", "--port", self._port, "--gates", "off"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                list(map(str, words)), stdout=file, stderr=file, env={**os.environ, "VOCO2D_TOKEN": TOKEN}
            )
        while (found := PORT_WORDS.search(log.read_bytes())) is None:
            if self.process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        self.address = found[1].decode()
        self._port = self.address.rpartition(":")[2]

    def kill_worker(self) -> None:
        """Kill the process that grades; the service starts another."""
        children = psutil.Process(self.process.pid).children()
        next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()

    def kill(self) -> None:
        """Kill the process that listens, and start it again."""
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        """Ask it to end, and return its code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def client(self) -> httpx2.Client:
        """Make a client that may ask it."""
        return httpx2.Client(base_url=self.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=120)


def main() -> None:
    """Make studies, upload them, kill worker and server once each, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    os.sched_setaffinity(0, CORES & os.sched_getaffinity(0))
    studies = make_studies(options.work / "cohort", options.studies)
    make_run(options.work / "run")
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for folder in studies.values():
        waiting.put(packed(folder))
    server = Server(options.work)
    begun = time.monotonic()
    accepted: list[str] = []
    tries: list[int] = []
    clients = [threading.Thread(target=push, args=(waiting, server, accepted, tries)) for _ in range(options.clients)]
    for client in clients:
        client.start()
    wait_until(lambda: len(accepted) >= options.studies // 4)
    server.kill()
    for client in clients:
        client.join()
    pushed_s = time.monotonic() - begun
    wait_until(lambda: sum(job["state"] in ("done", "failed") for job in jobs(server)) >= options.studies // 3)
    server.kill_worker()
    wait_until(lambda: all(job["state"] in ("done", "failed") for job in jobs(server)))
    result = count(server, accepted)
    result |= {"clients": options.clients, "requests": sum(tries), "server_starts": server.starts}
    result |= {"seconds_until_pushed": round(pushed_s), "seconds_until_answered": round(time.monotonic() - begun)}
    result |= {"peak_rss_mb": round(server.peak_bytes / 1e6), "code_at_end": server.stop()}
    result |= {"hardware": hardware(), "voco2d": VERSION}
    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if result["in"] != result["answered"] + result["refused"] or result["accepted_and_lost"]:
        raise SystemExit("something was lost")


def packed(folder: Path) -> bytes:
    """Zip the files of a study."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return file.getvalue()


def push(waiting: "queue.SimpleQueue[bytes]", server: Server, accepted: list[str], tries: list[int]) -> None:
    """Upload studies until none is left; one whose acceptance was not heard of is uploaded again."""
    while True:
        try:
            content = waiting.get_nowait()
        except queue.Empty:
            return
        tried = 0
        while True:
            tried += 1
            try:
                with server.client() as client:
                    answer = client.post("/api/jobs", files={"scan": ("study.zip", content)})
            except httpx2.TransportError:
                time.sleep(0.5)
                continue
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        tries.append(tried)


def jobs(server: Server) -> list[dict[str, Any]]:
    """List all jobs."""
    with server.client() as client:
        listed: list[dict[str, Any]] = client.get("/api/jobs", params={"limit": 200}).json()["jobs"]
    return listed


def count(server: Server, accepted: list[str]) -> dict[str, Any]:
    """Count what was accepted, and what came of each."""
    known = {job["id"]: job for job in jobs(server)}
    answered, reasons = 0, {}
    with server.client() as client:
        for job_id in accepted:
            job = known.get(job_id)
            if job is None:
                continue
            reason = job["reason"]
            if job["state"] == "done":
                (study,) = client.get(f"/api/jobs/{job_id}/result").json()["studies"]
                reason = "" if study["status"] == "assessed" else study["reason"]
            answered += not reason
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
    return {
        "in": len(accepted),
        "answered": answered,
        "refused": sum(reasons.values()),
        "reasons": reasons,
        "accepted_and_lost": len(set(accepted) - set(known)),
        "jobs_whose_acceptance_was_not_heard_of": len(set(known) - set(accepted)),
    }


def wait_until(there: Callable[[], bool]) -> None:
    """Look again and again."""
    until = time.monotonic() + 1200
    while not there():
        if time.monotonic() > until:
            raise SystemExit("waited for 20 minutes")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
