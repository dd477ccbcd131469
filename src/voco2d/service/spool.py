"""Keeps what a DICOM node received and what it answered, on disk, so that neither a crash nor a full disk loses any."""

import filecmp
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from voco2d.durable import to_disk
from voco2d.file_lock import hold
from voco2d.service.audit import digest_of
from voco2d.service.ledger import Ledger

_LEAST_FREE: Final = 1 << 30
"""Bytes that are left free on the disk."""


class SpoolFullError(Exception):
    """Nothing more can be taken in; carries no identifier."""


class Spool:
    """Images by study below `images/`, results below `results/`, states in `node.sqlite`.

    File names are digests of UIDs. Images hold whatever their senders wrote, names of patients among it, and results
    repeat some: the folder is for its owner alone (mode 0700).

    Threads may call at the same time; other processes are kept out by `node.lock`.

    Args:
        folder: Made where it is missing.
        most_bytes: What images and results may take.
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
        shutil.rmtree(self.incoming)  # what a crash cut short: images nobody was told of, and what was being deleted
        self.incoming.mkdir()
        self.ledger.reconcile({path.parent.name for path in (folder / "images").glob("*/*")})
        self._results = _size(folder / "results")
        self._used = self._results + _size(folder / "images")
        self._changing = threading.Lock()
        """Held while an image appears, or studies are taken or forgotten: none of these meets half of another."""

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
            to_disk(part)
            with self._changing:
                self._keep(part, digest, f"{digest_of(f'{series_uid}/{instance_uid}')}.dcm")
            with suppress(FileNotFoundError):  # where it was answered and forgotten already
                to_disk(self.images(digest))  # takes longest, and other senders need not wait for it
        finally:
            part.unlink(missing_ok=True)
        return digest

    def take(self, quiet_s: float) -> tuple[str, int] | None:
        """Take a study to be graded, see `Ledger.take`."""
        with self._changing:
            return self.ledger.take(quiet_s)

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
        try:
            part.mkdir()
            for name, content in files.items():
                (part / name).write_bytes(content)
                to_disk(part / name)
            final.parent.mkdir(exist_ok=True)
            before = _size(final)
            shutil.rmtree(final, ignore_errors=True)  # of an attempt that came to no end, or the same study sent again
            part.replace(final)
        except Exception:
            shutil.rmtree(part, ignore_errors=True)
            raise
        with self._changing:
            grown = _size(final) - before
            self._used += grown
            self._results += grown
        to_disk(final.parent)
        return [str((final / name).relative_to(self.folder)) for name in files]

    def forget(self, keep_s: float) -> int:
        """Delete the images of studies that were answered long ago; return how many studies that were.

        A study that an image comes to meanwhile keeps all of them, or only the one that came since.
        """
        with self._changing:
            gone = self._set_aside("images", self.ledger.forgettable(keep_s))
        self._delete(gone)
        return len(gone)

    def forget_results(self, keep_s: float) -> int:
        """Delete the results of studies that were answered long ago; return how many studies that were.

        A study of which a result still waits to be sent keeps all; what was given up goes like what arrived.
        """
        with self._changing:
            settled = self.ledger.settled(keep_s)
            gone = self._set_aside("results", settled)
        freed = self._delete(gone)
        with self._changing:
            self._results -= freed
        self.ledger.strike_sent(set(settled))  # last, as a full disk must be freed first
        return len(gone)

    def lack(self) -> str:
        """Say why nothing more can be taken in, or nothing where there is room."""
        if self._results > self._most_bytes / 2 and self._used >= self._most_bytes:
            return "the spool holds the most allowed, most of it results, which --keep-results-hours sets a time for"
        if self._used >= self._most_bytes:
            return "the spool holds the most allowed"
        if shutil.disk_usage(self.folder).free < _LEAST_FREE:
            return "less than 1 GiB is free on the disk"
        return ""

    def _keep(self, part: Path, digest: str, name: str) -> None:
        """Give a whole image its name, and note it; its sender is told nothing before this ends."""
        folder = self.images(digest)
        target = folder / name
        is_there = target.exists()
        before = target.stat().st_size if is_there else 0
        is_new = not (is_there and filecmp.cmp(part, target, shallow=False))
        if is_new:
            self.ledger.grow(digest, is_alone=not folder.is_dir() or not any(folder.iterdir()))
        if not folder.is_dir():
            folder.mkdir()
            to_disk(folder.parent)
        size = part.stat().st_size
        part.replace(target)
        self._used += size - before
        self.ledger.image(digest, is_new)

    def _set_aside(self, kind: str, digests: list[str]) -> list[Path]:
        """Move folders to where a new start deletes them, each at once and as a whole."""
        found = {path.name for path in (self.folder / kind).iterdir()}
        moved = []
        for digest in found.intersection(digests):
            aside = self.incoming / f"{uuid.uuid4().hex}.forgotten"
            moved.append((self.folder / kind / digest).replace(aside))
        return moved

    def _delete(self, folders: list[Path]) -> int:
        """Delete folders; return how many bytes that frees."""
        freed = 0
        for folder in folders:
            size = _size(folder)
            shutil.rmtree(folder)
            with self._changing:
                self._used -= size
            freed += size
        return freed


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
