"""What a watched folder's entries have come to, in one SQLite file that outlives crashes at any moment."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from voco2d.errors import StoreError

State = Literal["running", "done", "failed"]

_ENTRIES: Final = """
CREATE TABLE IF NOT EXISTS entries (
    name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rows TEXT NOT NULL
)
"""
_MODEL: Final = "CREATE TABLE IF NOT EXISTS model (row INTEGER PRIMARY KEY CHECK (row = 1), identity TEXT NOT NULL)"


@dataclass(frozen=True)
class Entry:
    """A file or folder below the watched one.

    Args:
        name: Its name.
        fingerprint: Of its files when it was taken up.
        state: `running` until the end is known: after a crash it is begun again.
        attempts: How often it was begun with this fingerprint.
        reason: Why it failed, or empty.
    """

    name: str
    fingerprint: str
    state: State
    attempts: int
    reason: str = ""


class WatchLedger:
    """Entries by name, kept in a file; each change is on disk before the call returns.

    Args:
        path: The SQLite file; its folder exists.

    Raises:
        StoreError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            for table in (_ENTRIES, _MODEL):
                self._change(table)
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path}: damaged; delete it, and all that is there is graded again") from error

    def claim(self, model: str) -> bool:
        """Note which model the entries are graded by, the first time; return whether it is the one noted.

        A ledger from before models were noted takes the first that comes.
        """
        self._change("INSERT OR IGNORE INTO model VALUES (1, ?)", model)
        with closing(self._open()) as database:
            (known,) = database.execute("SELECT identity FROM model").fetchone()
        return bool(known == model)

    def entries(self) -> dict[str, Entry]:
        """Return all entries by name, in the order of their names."""
        with closing(self._open()) as database:
            found = database.execute("SELECT name, fingerprint, state, attempts, reason FROM entries ORDER BY name")
            return {name: Entry(name, *about) for name, *about in found}

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the prediction table of all entries that are done, in the order of their names."""
        with closing(self._open()) as database:
            found = database.execute("SELECT rows FROM entries WHERE state = 'done' ORDER BY name")
            return [row for (rows,) in found for row in json.loads(rows)]

    def begin(self, name: str, fingerprint: str) -> int:
        """Note that an entry is taken up; return how often that was with this fingerprint."""
        known = self.entries().get(name)
        attempts = known.attempts + 1 if known is not None and known.fingerprint == fingerprint else 1
        self._change(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, 'running', ?, '', '[]')", name, fingerprint, attempts
        )
        return attempts

    def finish(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note that an entry's results are written."""
        self._change("UPDATE entries SET state = 'done', rows = ? WHERE name = ?", json.dumps(list(rows)), name)

    def fail(self, name: str, reason: str) -> None:
        """Note that an entry can't be graded."""
        self._change("UPDATE entries SET state = 'failed', reason = ? WHERE name = ?", reason, name)

    def _change(self, statement: str, *values: str | int) -> None:
        with closing(self._open()) as database, database:
            database.execute(statement, values)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)
