"""What one call of `prepare` knows of its sources: unchanged, refused before, to do, left out."""

from collections.abc import Sequence
from pathlib import Path

from voco2d.io.source import Rejection, Source
from voco2d.progress import track
from voco2d.store.conversion import Job, Outcome
from voco2d.store.files import list_files
from voco2d.store.layout import VOLUMES, source_fingerprint, source_identity
from voco2d.store.left_out import Territory
from voco2d.store.location import Location
from voco2d.store.record import Record, Refusal, load_records, load_refusals
from voco2d.store.settings import StoreSettings
from voco2d.version import VERSION


class Ledger:
    """Sorts sources by what the store knows of them, then books what becomes of those to do.

    Args:
        root: The store.
        settings: Settings of the store.
        found: Sources of this call.
        rejections: What discovery passed over.
        territory: Where this call looked.
        masks: Folder of organ masks.

    Attributes:
        jobs: What is to be done.
        unchanged: Number of volumes that need nothing.
        vanished: Number of volumes that stay although their sources are gone.
        prepared: Number of jobs that became volumes.
        left_out: Everything of this call that is in no volume.
        unrecorded: The part of it that neither a record nor a refusal tells.
    """

    def __init__(
        self,
        root: Location,
        settings: StoreSettings,
        found: Sequence[Source],
        rejections: Sequence[Rejection],
        territory: Territory,
        masks: Path | None = None,
    ) -> None:
        self.jobs: list[Job] = []
        self.unchanged = 0
        self.prepared = 0
        self.left_out: list[Rejection] = list(rejections)
        self.unrecorded: list[Rejection] = list(rejections)
        self._root = root
        self._settings = settings
        self._masks = masks
        self._sizes = {name: size for name, (size, _) in list_files(root / VOLUMES).items()}
        self._records = load_records(root)
        self._refusals = load_refusals(root)
        sources = {source_identity(source): source for source in found}
        for identity, source in track(sources.items(), "checking sources", total=len(sources)):
            self._sort_in(identity, source)
        gone = [record for identity, record in self._records.items() if identity not in sources]
        gone_here = [record for record in gone if record.source in territory or not record.source.exists()]
        self._vanished = {record.ids: record for record in gone_here}
        self.vanished = len(gone_here)
        for identity, refusal in self._refusals.items():
            if identity not in sources and refusal.path in territory:
                refusal.remove(root)

    def book(self, job: Job, outcome: Outcome) -> None:
        """Count what became of `job` and bring the store's folders in line with it.

        Raises:
            OSError: The store can't be written.
        """
        if isinstance(outcome, Record):
            self.prepared += 1
            self.left_out.extend(outcome.left_out)
            moved = self._vanished.get(outcome.ids)
            if moved is not None and moved.is_same_series(outcome):
                moved.remove(self._root)
                del self._vanished[outcome.ids]
                self.vanished -= 1
        elif isinstance(outcome, Refusal):
            outcome.save(self._root)
            if job.old is not None:
                job.old.remove(self._root)
            self.left_out.append(outcome.rejection)
        else:
            self._pass_over(outcome)

    def _pass_over(self, rejection: Rejection) -> None:
        self.left_out.append(rejection)
        self.unrecorded.append(rejection)

    def _sort_in(self, identity: str, source: Source) -> None:
        record, refusal = self._records.get(identity), self._refusals.get(identity)
        try:
            fingerprint = source_fingerprint(source, self._masks)
        except OSError as error:
            self._pass_over(Rejection(str(source.path), f"can't be opened: {error.strerror or error}"))
            return
        if record is not None and self._is_current(record, source, fingerprint):
            self.unchanged += 1
            self.left_out.extend(record.left_out)
            return
        settings = self._settings
        how = (settings.read, settings.preprocess, settings.hash)
        job = Job(source, identity, fingerprint, self._root, *how, old=record, masks=self._masks)
        if refusal is not None and (refusal.fingerprint, refusal.version) == (fingerprint, VERSION):
            self.book(job, refusal)
        else:
            self.jobs.append(job)

    def _is_current(self, record: Record, source: Source, fingerprint: str) -> bool:
        """Whether the source is the one the record was made from, ids of a table too, and the volume is all there."""
        asked = {"patient_id": source.patient_id, "study_id": source.study_id}
        if any(given and given != record.row[key] for key, given in asked.items()):
            return False
        return record.row["source_hash"] == fingerprint and self._sizes.get(f"{record.key}.npy") == record.size_bytes
