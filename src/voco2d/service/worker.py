"""Takes studies that have become quiet, one after the other, and answers them."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from voco2d.inference.outcome import failure_reason
from voco2d.logs import wordless
from voco2d.service.audit import Audit
from voco2d.service.grader import KilledError, NotReadyError
from voco2d.service.ledger import GIVEN_UP
from voco2d.service.node_args import NodeArgs
from voco2d.service.send import send_due, spell
from voco2d.service.spool import Spool

_FORGET_EVERY_S = 600.0
_LOAD_AGAIN_S = 10.0
_DISK: Final = (OSError, sqlite3.OperationalError)
"""What a disk that is full, or can't be written for another reason, ends a step with."""

_log = logging.getLogger(__name__)

Answer = Callable[[str, int], dict[str, bytes]]
"""Digest of a study and version of its images → file name → content."""


class Worker:
    """Grades in the thread that calls `run`, and sends in one of its own, so that a slow receiver holds up nothing.

    Args:
        args: Times and targets.
        spool: Where studies come from and answers go.
        audit: Told what was answered.
        answer: Grades a study; what it raises is the study's reason for having no answer, but for `KilledError` and
            `NotReadyError`, which leave the study to be graded again.
    """

    def __init__(self, args: NodeArgs, spool: Spool, audit: Audit, answer: Answer) -> None:
        self._args, self._spool, self._audit, self._answer = args, spool, audit, answer
        self._stop = threading.Event()
        self._sender = threading.Thread(target=self._send, name="sender", daemon=True)
        self._next_forgetting = 0.0
        self._taken: str | None = None
        """The study that a step is at, or that could not be put back."""

    def run(self, once: bool = False) -> None:
        """Work until `stop`; with `once` until nothing is left to grade and to send.

        Raises:
            NotReadyError: With `once`; otherwise studies wait until the networks can be loaded.
            OSError: With `once`, as `sqlite3.OperationalError`; otherwise studies wait until the disk can be written.
        """
        self._sender.start()
        try:
            while not self._stop.is_set():
                try:
                    worked = self.step()
                except (NotReadyError, *_DISK) as error:
                    if once:
                        raise
                    told = str(error) if isinstance(error, NotReadyError) else f"the disk ({type(error).__name__})"
                    _log.error("%s; tried again in %g s", told, _LOAD_AGAIN_S)
                    self._stop.wait(_LOAD_AGAIN_S)
                    continue
                if worked:
                    continue
                if once and not self._is_waiting():
                    break
                self._stop.wait(0.2)
        finally:
            self._stop.set()
            self._sender.join(timeout=self._args.timeout_s)

    def stop(self) -> None:
        """Let `run` end after the study that it is at."""
        self._stop.set()

    def step(self) -> bool:
        """Answer one study; return whether there was one.

        Raises:
            NotReadyError: It could not be begun; it waits as before.
            OSError: The disk could not be written, as `sqlite3.OperationalError`; the study waits as before.
        """
        self._put_back()
        if time.monotonic() >= self._next_forgetting:
            self._next_forgetting = time.monotonic() + _FORGET_EVERY_S
            self._spool.forget(self._args.keep_h * 3600)
            if self._args.results_h is not None:
                self._spool.forget_results(self._args.results_h * 3600)
        for digest in self._spool.ledger.give_up():
            self._audit.note("failed", "", digest=digest)
            _log.warning("study %s failed: %s", digest, GIVEN_UP)
        taken = self._spool.take(self._args.quiet_s)
        if taken is None:
            return False
        self._taken = taken[0]
        try:
            self._grade(*taken)
        except _DISK:
            with suppress(*_DISK):  # else the next step does it
                self._put_back()
            raise
        self._taken = None
        return True

    def _put_back(self) -> None:
        """Have the study graded again that a step came to no end with, if there is one."""
        if self._taken is not None:
            self._spool.ledger.put_back(self._taken, is_attempt=False)
            self._taken = None

    def _grade(self, digest: str, version: int) -> None:
        begun = time.monotonic()
        reason = ""
        files: dict[str, bytes] = {}
        try:
            files = self._answer(digest, version)
        except NotReadyError:
            self._put_back()
            raise
        except sqlite3.OperationalError:  # the ledger's, no fault of the study
            raise
        except KilledError as error:
            self._spool.ledger.put_back(digest, is_attempt=True)
            self._audit.note("to be graded again", "", digest=digest)
            _log.warning("study %s is to be graded again: %s", digest, error)
            return
        except Exception as error:  # whatever a study holds, the others must still be answered
            _log.debug("%s", wordless(error))
            reason = failure_reason(error)
        paths = self._spool.write_results(digest, version, files) if files else []
        outgoing = [path for path in paths if path.endswith(".dcm")]
        counts = self._spool.ledger.finish(
            digest, version, reason, outgoing, [spell(target) for target in self._args.targets]
        )
        event = ("failed" if reason else "answered") if counts else "grew meanwhile"
        self._audit.note(event, "", digest=digest, seconds=round(time.monotonic() - begun))
        _log.info("study %s %s%s", digest, event, f": {reason}" if reason else "")

    def _send(self) -> None:
        while not self._stop.is_set():
            try:
                if send_due(self._spool.ledger, self._spool.folder, self._args, self._audit):
                    continue
            except Exception as error:  # the next try may work, and grading goes on
                _log.error("sending failed (%s)", type(error).__name__)
                _log.debug("%s", wordless(error))
            self._stop.wait(0.5)

    def _is_waiting(self) -> bool:
        counts = self._spool.ledger.counts()
        return any(counts.get(state) for state in ("receiving", "running", "waiting"))
