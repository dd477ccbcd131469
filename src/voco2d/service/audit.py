"""Who asked for what and when, without names: an identifier stands there as a digest."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from voco2d.service.spool import digest_of


class Audit:
    """Appends a JSON line an event: time, event, caller, digest of the study.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def note(self, event: str, caller: str, study_uid: str, **more: int | str) -> None:
        """Note one event.

        Args:
            event: What happened; without identifiers.
            caller: AE title or user that asked; its printable characters are kept.
            study_uid: Told as a digest; empty where no study is meant.
            more: Further plain values.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "caller": "".join(letter for letter in str(caller) if letter.isprintable())[:64].strip(),
            "study": digest_of(study_uid) if study_uid else "",
            **more,
        }
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
