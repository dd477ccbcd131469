"""The SQLite file of the ledger: its tables, and how it is opened."""

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from voco2d.errors import StoreError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS studies (
    digest TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    last_image REAL NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    version INTEGER NOT NULL,
    taken INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS forgotten (
    digest TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS outgoing (
    file TEXT NOT NULL,
    target TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_try REAL NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (file, target)
);
CREATE TABLE IF NOT EXISTS refusals (
    reason TEXT PRIMARY KEY,
    count INTEGER NOT NULL
);
"""


class LedgerFile:
    """Opens the file for one transaction at a time; what a transaction changed is on disk when it ends.

    Args:
        path: Made where it is missing; its folder exists.

    Raises:
        StoreError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with closing(self._connect()) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
            idle = (
                self._connect()
            )  # closing the last one writes a checkpoint, which takes longer than the change itself
            weakref.finalize(self, idle.close)
            idle.execute("SELECT count(*) FROM studies").fetchall()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path}: damaged; delete it, and studies that are kept are graded again") from error

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction; an exception takes back what it changed."""
        with closing(self._connect()) as database, database:
            yield database

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30, check_same_thread=False)
