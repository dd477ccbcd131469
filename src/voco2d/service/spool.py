"""Keeps what a DICOM node received and what it answered, on disk, so that neither a crash nor a full disk loses any."""

import filecmp
import logging
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voco2d.durable import to_disk
from voco2d.file_lock import hold
from voco2d.service.audit import digest_of
from voco2d.service.ledger import Ledger

_LEAST_FREE: Final = 1 << 30
"""Bytes that are left free on the disk."""
_COUNT_EVERY: Final = 200

_log = logging.getLogger(__name__)


class SpoolFullError(Exception):
    """Nothing more can be taken in; carries no identifier."""


class Spool:
    """Images by study below `images/`, results below `results/`, states in `node.sqlite`.

    File names are digests of UIDs. Images hold whatever their senders wrote, names of patients among it: the folder is
    for its owner alone (mode 0700).

    Args:
        folder: Made where it is missing.
        most_bytes: What images may take.
        now: Seconds since 1970.

    Raises:
        UsageError: Another process uses the folder.
        StoreError: The ledger is damaged.
    """

    def __init__(self, folder: Path, most_bytes: int, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        for name in ("images", "results", "incoming"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.incoming = folder / "incoming"
        self._lock = hold(
            folder / "node.lock", f"{folder}: another node uses it; stop that one, or choose another --spool"
        )
        self.ledger = Ledger(folder / "node.sqlite", now)
        shutil.rmtree(self.incoming)  # writes that a crash cut short: nobody was told that they arrived
        self.incoming.mkdir()
        self._used = sum(path.stat().st_size for path in (folder / "images").glob("*/*"))
        self._until_count = _COUNT_EVERY

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def add(self, study_uid: str, series_uid: str, instance_uid: str, write: Callable[[Path], None]) -> str:
        """Keep an image; when the call returns it is on disk, as a whole.

        Args:
            study_uid: Groups images.
            series_uid: With `instance_uid` it names the image; the same image replaces itself.
            instance_uid: See `series_uid`.
            write: Writes the DICOM file to the path it is given, or moves it there.

        Returns:
            Digest of the study.

        Raises:
            SpoolFullError: There is no room.
            OSError: It could not be written.
        """
        if lack := self.lack():
            raise SpoolFullError(lack)
        digest = digest_of(study_uid)
        part = self.incoming / uuid.uuid4().hex
        try:
            write(part)
            size = part.stat().st_size
            to_disk(part)
            target = self.images(digest) / f"{digest_of(f'{series_uid}/{instance_uid}')}.dcm"
            target.parent.mkdir(exist_ok=True)
            is_new = not (target.exists() and filecmp.cmp(part, target, shallow=False))
            part.replace(target)
            to_disk(target.parent)
        finally:
            part.unlink(missing_ok=True)
        self._used += size
        self.ledger.image(digest, is_new)
        return digest

    def images(self, digest: str) -> Path:
        """Name the folder of a study's images."""
        return self.folder / "images" / digest

    def write_results(self, digest: str, version: int, files: dict[str, bytes]) -> list[str]:
        """Write the results of a study, and return their paths below the spool; they appear all at once.

        Args:
            digest: The study.
            version: Of its images.
            files: File name → content.
        """
        final = self.folder / "results" / digest / str(version)
        part = self.incoming / f"{uuid.uuid4().hex}.results"
        part.mkdir()
        for name, content in files.items():
            (part / name).write_bytes(content)
            to_disk(part / name)
        final.parent.mkdir(exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)  # of an attempt that a crash ended
        part.replace(final)
        to_disk(final.parent)
        return [str((final / name).relative_to(self.folder)) for name in files]

    def forget(self, keep_s: float) -> int:
        """Delete the images of studies that were answered long ago; return how many studies that were."""
        gone = [digest for digest in self.ledger.forgettable(keep_s) if self.images(digest).is_dir()]
        for digest in gone:
            shutil.rmtree(self.images(digest))
        self._until_count = 0
        return len(gone)

    def lack(self) -> str:
        """Say why nothing more can be taken in, or nothing where there is room."""
        self._until_count -= 1
        if self._until_count < 0:  # images that replaced themselves were counted twice
            self._used = sum(path.stat().st_size for path in (self.folder / "images").glob("*/*"))
            self._until_count = _COUNT_EVERY
        if self._used >= self._most_bytes:
            return "the spool holds the most allowed"
        if shutil.disk_usage(self.folder).free < _LEAST_FREE:
            return "less than 1 GiB is free on the disk"
        return ""
