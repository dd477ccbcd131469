"""What the studies of the DICOM node have come to, in one SQLite file that outlives crashes at any moment."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Literal

from voco2d.service.ledger_file import LedgerFile
from voco2d.service.outgoing import Outgoing

State = Literal["receiving", "running", "graded", "failed"]
"""`receiving` until it was quiet; `running` until its results are written; `failed` where there is no answer."""

MOST_ATTEMPTS: Final = 3
"""How often a study may end the program, or be under way when it is killed, before it is given up."""
GIVEN_UP: Final = "ended the program while it was graded"


class Ledger:
    """States of studies and of what is sent; each change is on disk before the call returns.

    Args:
        path: The SQLite file; its folder exists.
        now: Seconds since 1970; it is stored, so it must go on over restarts.

    Raises:
        StoreError: The file is damaged.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._file, self._now = LedgerFile(path), now

    def image(self, digest: str, is_new: bool = True) -> None:
        """Note that an image of a study came; a study that was answered already is taken up again.

        Args:
            digest: The study.
            is_new: Whether it was not there as it is; else the study keeps its version, and its answer the UIDs.
        """
        with self._file.open() as database:
            database.execute(
                "INSERT INTO studies VALUES (?, 'receiving', ?, 0, '', 1, 0) ON CONFLICT (digest) DO UPDATE SET "
                "version = version + (? AND version <= taken), "
                "attempts = CASE WHEN state = 'receiving' THEN attempts ELSE 0 END, "
                "state = 'receiving', last_image = excluded.last_image",
                (digest, self._now(), is_new),
            )

    def grow(self, digest: str, is_alone: bool) -> None:
        """Give a study that was taken already a new version, before an image appears that it had not.

        A kill between the two costs a number; the other way round it left an answer's UIDs to other images.

        Args:
            digest: A study, which may be unknown.
            is_alone: Whether no other image of it is kept. Where some were, the study counts as forgotten.
        """
        with self._file.open() as database:
            if is_alone:
                database.execute(
                    "INSERT OR IGNORE INTO forgotten SELECT digest FROM studies WHERE digest = ? AND taken > 0",
                    (digest,),
                )
            database.execute(
                "UPDATE studies SET version = version + 1, "
                "attempts = CASE state WHEN 'running' THEN 0 ELSE attempts END, "
                "state = CASE state WHEN 'running' THEN 'receiving' ELSE state END "
                "WHERE digest = ? AND version <= taken",
                (digest,),
            )

    def reconcile(self, kept: Collection[str]) -> None:
        """Take up studies of which images are kept and nothing is noted, and strike those of which only a note is left.

        A kill before the first image was noted leaves the former, as does a ledger that was deleted; a power cut before
        its name was on the disk leaves the latter. Nobody was told that such an image came.
        """
        with self._file.open() as database:
            rows = database.execute("SELECT digest FROM studies WHERE state = 'receiving' AND taken = 0").fetchall()
            gone = [row for row in rows if row[0] not in kept]
            database.executemany("DELETE FROM studies WHERE digest = ?", gone)
            database.executemany(
                "INSERT OR IGNORE INTO studies VALUES (?, 'receiving', ?, 0, '', 1, 0)",
                [(digest, self._now()) for digest in kept],
            )

    def is_forgotten(self, digest: str) -> bool:
        """Whether images of a study were deleted after its answer, and others have come since."""
        with self._file.open() as database:
            return database.execute("SELECT 1 FROM forgotten WHERE digest = ?", (digest,)).fetchone() is not None

    def give_up(self) -> list[str]:
        """Note as failed what ended the program `MOST_ATTEMPTS` times; return these studies."""
        with self._file.open() as database:
            rows = database.execute(
                "UPDATE studies SET state = 'failed', reason = ? "
                "WHERE state IN ('receiving', 'running') AND attempts >= ? RETURNING digest",
                (GIVEN_UP, MOST_ATTEMPTS),
            ).fetchall()
        return sorted(str(row[0]) for row in rows)

    def take(self, quiet_s: float) -> tuple[str, int] | None:
        """Take the study that has been quiet longest, among them those that a crash left running.

        Returns:
            Its digest and version, or None where none is ready.
        """
        with self._file.open() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute(
                "SELECT digest, version FROM studies WHERE state = 'receiving' AND last_image <= ? AND attempts < ? "
                "ORDER BY last_image LIMIT 1",
                (self._now() - quiet_s, MOST_ATTEMPTS),
            ).fetchone()
            if row is None:
                return None
            database.execute(
                "UPDATE studies SET state = 'running', attempts = attempts + 1, taken = version WHERE digest = ?",
                (row[0],),
            )
        return str(row[0]), int(row[1])

    def recover(self) -> int:
        """Put what a crash left running back to be graded; return how many. Only for a program that just began."""
        with self._file.open() as database:
            return database.execute("UPDATE studies SET state = 'receiving' WHERE state = 'running'").rowcount

    def put_back(self, digest: str, is_attempt: bool) -> None:
        """Have a study graded again that came to no end; one that grew meanwhile is due already.

        Args:
            digest: The study.
            is_attempt: Whether that counts as one of `MOST_ATTEMPTS`.
        """
        with self._file.open() as database:
            database.execute(
                "UPDATE studies SET state = 'receiving', attempts = attempts - ? "
                "WHERE digest = ? AND state = 'running'",
                (not is_attempt, digest),
            )

    def finish(self, digest: str, version: int, reason: str, files: list[str], targets: list[str]) -> bool:
        """Note that a study was answered and what is to be sent where, in one step.

        Args:
            digest: The study.
            version: The one that was graded.
            reason: Why it failed, or empty.
            files: Its results, paths below the spool.
            targets: Where each goes.

        Returns:
            Whether it counts; it does not where further images came meanwhile.
        """
        state = "failed" if reason else "graded"
        with self._file.open() as database:
            changed = database.execute(
                "UPDATE studies SET state = ?, reason = ? WHERE digest = ? AND version = ? AND state = 'running'",
                (state, reason, digest, version),
            ).rowcount
            if changed:
                rows = [(file, target, self._now()) for file in files for target in targets]
                database.executemany("INSERT OR REPLACE INTO outgoing VALUES (?, ?, 0, ?, 'waiting', '')", rows)
        return bool(changed)

    def due(self) -> list[Outgoing]:
        """Return what should be sent now, oldest first."""
        with self._file.open() as database:
            rows = database.execute(
                "SELECT file, target, attempts FROM outgoing WHERE state = 'waiting' AND next_try <= ? "
                "ORDER BY next_try, file",
                (self._now(),),
            ).fetchall()
        return [Outgoing(*row) for row in rows]

    def sent(self, entry: Outgoing) -> None:
        """Note that something arrived."""
        self._end_try(entry, "sent", "", entry.tried(False), 0.0)

    def not_sent(self, entry: Outgoing, reason: str, is_final: bool = False, is_away: bool = False) -> bool:
        """Note why something did not arrive; it is tried again, later each time, and given up at last.

        Args:
            entry: What.
            reason: Why; without identifiers.
            is_final: Whether it is of no use to try it again.
            is_away: Whether the target takes nothing for now, which is waited for without end.

        Returns:
            Whether it is given up.
        """
        given_up = is_final or (entry.is_last and not is_away)
        self._end_try(entry, "given_up" if given_up else "waiting", reason, entry.tried(is_away), entry.wait_s)
        return given_up

    def counts(self) -> dict[str, int]:
        """Count studies by state, and results by `sent`, `waiting` and `given_up`."""
        with self._file.open() as database:
            studies = database.execute("SELECT state, count(*) FROM studies GROUP BY state").fetchall()
            results = database.execute("SELECT state, count(*) FROM outgoing GROUP BY state").fetchall()
        return {**dict(studies), **dict(results)}

    def failures(self) -> list[tuple[str, str]]:
        """Return digest and reason of each study without an answer."""
        with self._file.open() as database:
            rows = database.execute("SELECT digest, reason FROM studies WHERE state = 'failed' ORDER BY digest")
            return [(str(digest), str(reason)) for digest, reason in rows.fetchall()]

    def refuse(self, reason: str) -> None:
        """Count what was not taken in, by its reason."""
        with self._file.open() as database:
            database.execute(
                "INSERT INTO refusals VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET count = count + 1", (reason,)
            )

    def refusals(self) -> dict[str, int]:
        """Return how often something was not taken in, by reason."""
        with self._file.open() as database:
            return dict(database.execute("SELECT reason, count FROM refusals ORDER BY reason").fetchall())

    def forgettable(self, keep_s: float) -> list[str]:
        """Return answered studies whose last image is older; their images may go."""
        with self._file.open() as database:
            old = "SELECT digest FROM studies WHERE state IN ('graded', 'failed') AND last_image <= ?"
            rows = database.execute(old, (self._now() - keep_s,)).fetchall()
        return [str(row[0]) for row in rows]

    def settled(self, keep_s: float) -> list[str]:
        """Return those of `forgettable` of which no result waits to be sent; their results may go."""
        with self._file.open() as database:
            rows = database.execute("SELECT file, target, attempts FROM outgoing WHERE state = 'waiting'").fetchall()
        waiting = {Outgoing(*row).study for row in rows}
        return [digest for digest in self.forgettable(keep_s) if digest not in waiting]

    def strike_sent(self, digests: Collection[str]) -> None:
        """Strike what is noted of results that arrived, of studies whose results go."""
        with self._file.open() as database:
            rows = database.execute("SELECT file, target, attempts FROM outgoing WHERE state = 'sent'").fetchall()
            gone = [(entry.file, entry.target) for entry in (Outgoing(*row) for row in rows) if entry.study in digests]
            database.executemany("DELETE FROM outgoing WHERE file = ? AND target = ?", gone)

    def _end_try(self, entry: Outgoing, state: str, reason: str, attempts: int, wait_s: float) -> None:
        with self._file.open() as database:
            database.execute(
                "UPDATE outgoing SET attempts = ?, state = ?, reason = ?, next_try = ? WHERE file = ? AND target = ?",
                (attempts, state, reason, self._now() + wait_s, entry.file, entry.target),
            )
