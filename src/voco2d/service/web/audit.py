"""Who asked for what and when, as JSON lines: callers, jobs and studies stand there as digests."""

import hashlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path


class AuditLog:
    """Appends a line an event; several processes may append to one file.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def note(self, event: str, caller: str, job: str = "", **more: int | str) -> None:
        """Note one event.

        Args:
            event: What happened; no identifier.
            caller: Who asked, as a digest; empty for the service itself.
            job: Id of a job, told as a digest; empty where none is meant.
            more: Further plain values, none of them an identifier.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "caller": caller,
            "job": digest_of(job),
            **more,
        }
        with self._lock, self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


def digest_of(identifier: str) -> str:
    """Return the first 16 digits of an identifier's SHA-256; nothing for an empty one."""
    return hashlib.sha256(identifier.encode("utf-8", "backslashreplace")).hexdigest()[:16] if identifier else ""
