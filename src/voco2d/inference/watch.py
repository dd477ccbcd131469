"""Grades what is put into a folder, as soon as it has been left alone for a while."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from voco2d.errors import UsageError
from voco2d.file_lock import hold
from voco2d.inference.outcome import failure_reason
from voco2d.inference.predictor import Predictor
from voco2d.inference.result_files import RunTimes, hashed_id, report_text, results_text
from voco2d.inference.result_table import prediction_columns, prediction_rows
from voco2d.inference.watch_ledger import WatchLedger
from voco2d.logs import wordless

MOST_ATTEMPTS: Final = 3
"""How often an entry may end the program before it is given up."""
LEDGER_NAME: Final = "watch.sqlite"

_log = logging.getLogger(__name__)

WriteText = Callable[[Path, str], None]


class Watcher:
    """Takes up every file or folder right below `folder` once it was quiet, and writes its results below `out`.

    `out` holds `studies/<digest>.json` and `.report.json` of each entry, `predictions.csv` of all, `failed.csv` with
    the reason of each that could not be graded, and `watch.sqlite`. An entry is graded again only when its files
    change. Results are written before they count as done: after a crash nothing is lost, and nothing done is repeated.

    Args:
        predictor: Loaded once.
        folder: Where entries are put; those whose name begins with a dot are passed over.
        out: Where results go.
        quiet_s: Seconds that an entry's files must stay the same.
        write: Writes a text file as a whole or not at all.
        clock: Seconds that never go backwards.

    Raises:
        UsageError: `folder` is no folder, or `out` lies in it or holds results of another model, or another process
            already watches for `out`.
        StoreError: The state in `out` is damaged.
    """

    def __init__(
        self,
        predictor: Predictor,
        folder: Path,
        out: Path,
        quiet_s: int | float,
        write: WriteText,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; name one to watch")
        if out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{out}: lies in the watched folder; choose another --out")
        self._predictor, self._folder, self._out = predictor, folder, out
        self._quiet_s, self._write, self._clock = quiet_s, write, clock
        (out / "studies").mkdir(parents=True, exist_ok=True)
        self._lock = hold(out / "watch.lock", f"{out}: another process writes there; stop it, or choose another --out")
        self._seen: dict[str, tuple[str, float]] = {}
        try:
            self._ledger = WatchLedger(out / LEDGER_NAME)
            self._claim()
            self._write_tables()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "Watcher":
        """Hold `out` for this process."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let another process watch."""
        self._lock.close()

    def step(self) -> int:
        """Look once, grade every entry that has been quiet, and return how many are still waiting to be.

        Raises:
            OSError: The folder can't be listed, or results can't be written.
        """
        known = self._ledger.entries()
        waiting = 0
        for path in self._entries():
            fingerprint = _fingerprint(path)
            entry = known.get(path.name)
            if entry is not None and entry.fingerprint == fingerprint and entry.state != "running":
                continue
            seen, since = self._seen.get(path.name, ("", 0.0))
            if seen != fingerprint:
                seen, since = self._seen[path.name] = (fingerprint, self._clock())
            if self._clock() - since < self._quiet_s:
                waiting += 1
                continue
            self._grade(path, fingerprint)
        return waiting

    def counts(self) -> dict[str, int]:
        """Count entries by their state."""
        states = [entry.state for entry in self._ledger.entries().values()]
        return {state: states.count(state) for state in ("done", "failed")}

    def _claim(self) -> None:
        if not self._ledger.claim(_identity(self._predictor)):
            raise UsageError(f"{self._out}: holds results of another model; choose another --out")

    def _entries(self) -> Iterator[Path]:
        yield from sorted(path for path in self._folder.iterdir() if not path.name.startswith("."))

    def _grade(self, path: Path, fingerprint: str) -> None:
        attempts = self._ledger.begin(path.name, fingerprint)
        if attempts > MOST_ATTEMPTS:
            self._fail(path, f"ended the program {MOST_ATTEMPTS} times while it was graded")
            return
        started = RunTimes.now()
        try:
            studies, rejections = self._predictor.predict_studies([path])
        except Exception as error:  # whatever an entry holds, the others must still be graded
            _log.debug("%s", wordless(error))
            self._fail(path, failure_reason(error))
            return
        if not studies:
            self._fail(path, rejections[0].reason if rejections else "no CT series in it")
            return
        target = self._out / "studies" / hashed_id(path.name)
        times = RunTimes(started, RunTimes.now(), 0.0)
        self._write(target.with_suffix(".report.json"), report_text(self._predictor, studies, rejections, times))
        self._write(target.with_suffix(".json"), results_text(studies))
        self._ledger.finish(path.name, prediction_rows(studies))
        self._write_tables()
        _log.info("graded entry %s", hashed_id(path.name))

    def _fail(self, path: Path, reason: str) -> None:
        self._ledger.fail(path.name, reason)
        self._write_tables()
        _log.warning("entry %s could not be graded: %s", hashed_id(path.name), reason)

    def _write_tables(self) -> None:
        rows = pd.DataFrame(self._ledger.rows(), columns=prediction_columns(self._predictor.targets))
        self._write(self._out / "predictions.csv", rows.to_csv(index=False))
        entries = self._ledger.entries().values()
        failed = [(entry.name, entry.reason) for entry in entries if entry.state == "failed"]
        self._write(self._out / "failed.csv", pd.DataFrame(failed, columns=["path", "reason"]).to_csv(index=False))


def watch(watcher: Watcher, poll_s: int | float, once: bool, sleep: Callable[[float], None] = time.sleep) -> None:
    """Look again and again; with `once` only until nothing waits.

    Args:
        watcher: Does the looking.
        poll_s: Seconds between two looks.
        once: Whether to end.
        sleep: Waits.
    """
    while watcher.step() or not once:
        sleep(poll_s)


def _identity(predictor: Predictor) -> str:
    """Tell whether rows may stand in one table: digests of the networks, and the columns."""
    digests = sorted(runtime.sha256 for runtime in predictor.models.runtimes)
    return json.dumps({"networks": digests, "columns": list(prediction_columns(predictor.targets))})


def _fingerprint(path: Path) -> str:
    """Tell whether the files of an entry are the same as before: their names, sizes and times."""
    digest = hashlib.sha256()
    for file in _files(path):
        try:
            about = file.stat()
            told = f"{file.relative_to(path.parent)}\0{about.st_size}\0{about.st_mtime_ns}\0"
        except OSError as error:
            told = f"{file.relative_to(path.parent)}\0{error.errno}\0"
        digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))
