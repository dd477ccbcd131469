"""Who asked for what and when, as JSON lines without names: an identifier stands there as a digest."""

import hashlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path


class Audit:
    """Appends a line an event: time, event, caller, digest of what it is about; several processes may append.

    Args:
        path: The file; its folder exists.
        subject: What events are about, the key of its digest in a line: "study" or "job".
    """

    def __init__(self, path: Path, subject: str = "study") -> None:
        self._path, self._subject = path, subject
        self._lock = threading.Lock()

    def note(self, event: str, caller: str, identifier: str = "", digest: str = "", **more: int | str) -> None:
        """Note one event.

        Args:
            event: What happened; without identifiers.
            caller: AE title, user or digest of who asked, empty for the service itself; its printable characters
                are kept.
            identifier: Of the subject, told as a digest; empty where none is meant.
            digest: In place of the identifier, where only its digest is known.
            more: Further plain values, none of them an identifier.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "caller": "".join(letter for letter in str(caller) if letter.isprintable())[:64].strip(),
            self._subject: digest or digest_of(identifier),
            **more,
        }
        with self._lock, self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


def digest_of(identifier: str) -> str:
    """Return what stands for an identifier in names and logs: 24 hexadecimal digits of its SHA-256, none for none."""
    return hashlib.sha256(identifier.encode("utf-8", "backslashreplace")).hexdigest()[:24] if identifier else ""
