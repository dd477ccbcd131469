"""From any mix of CT sources to a store: resumable, idempotent, many processes, nothing left out in silence."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd

from voco2d.errors import UsageError
from voco2d.io.discover import discover
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.progress import Progress
from voco2d.store.conversion import convert
from voco2d.store.layout import (
    INDEX,
    absolute,
    make_folders,
    write_failures,
    write_if_changed,
)
from voco2d.store.ledger import Ledger
from voco2d.store.quarantine import Territory, read_quarantine, write_quarantine
from voco2d.store.record import COLUMNS, load_records, load_refusals
from voco2d.store.settings import StoreSettings, settle
from voco2d.workers import available_cores, run_jobs


@dataclass(frozen=True)
class PrepareArgs:
    """How a store is made.

    Args:
        preprocess: Body box, HU limits, size.
        read: How sources are read.
        workers: Processes; 0 uses all cores. Each holds one series in memory, up to about 1 GB.
    """

    preprocess: PreprocessArgs = field(default_factory=PreprocessArgs)
    read: ReadArgs = field(default_factory=ReadArgs)
    workers: int = 0


@dataclass(frozen=True)
class PrepareSummary:
    """What a call of `prepare` did.

    Args:
        prepared: Volumes that were made or made anew.
        unchanged: Volumes that were there already; nothing was decoded for them.
        quarantined: Files and series of this call that were left out; quarantine.csv lists them.
        store: Folder of the store.
    """

    prepared: int
    unchanged: int
    quarantined: int
    store: Path


def prepare(sources: Sequence[Path], out: Path, args: PrepareArgs | None = None) -> PrepareSummary:
    """Prepare every CT volume below `sources` into the store `out`.

    A source that is in the store already and has not changed is not opened, nor one that was refused before by this
    version. One that changed is prepared anew. A volume whose source is gone stays, unless the same series is found
    elsewhere. An interrupted call leaves a store that is complete as far as it came; the same call goes on from there.

    Args:
        sources: Folders and files, as `discover` takes them.
        out: Folder of the store, new or made with the same settings.
        args: Settings; the defaults when None.

    Raises:
        UsageError: A source is missing, or there is nothing to prepare.
        StoreError: The store has other settings or can't be written, the disk is full, or a worker died.
    """
    args = args or PrepareArgs()
    if args.workers < 0:
        raise UsageError(f"workers={args.workers}; give the number of processes, or 0 for all cores")
    sources = [absolute(source) for source in sources]
    found, rejections = _discover(sources, out)
    settings = StoreSettings(preprocess=args.preprocess, read=args.read)
    with write_failures(out, "give a folder that can be written as --out"):
        settle(out, settings)
        make_folders(out)
        territory = Territory([*sources, *(source.path for source in found)])
        ledger = Ledger(out, settings, found, rejections, territory)
    try:
        _convert_all(ledger, out, args)
    except BaseException:
        with suppress(OSError):
            _write_tables(out, ledger.left_out, territory)
        raise
    with write_failures(out, "free some space or rights, then run the same command again"):
        _write_tables(out, ledger.left_out, territory)
    quarantined = len({(entry.path, entry.reason) for entry in ledger.left_out})
    return PrepareSummary(ledger.prepared, ledger.unchanged, quarantined, out)


def _discover(sources: Sequence[Path], out: Path) -> tuple[list[Source], list[Rejection]]:
    """Find sources, leaving aside the store itself where it lies below one of them."""
    store = Territory([out])
    for source in sources:
        if source in store:
            raise UsageError(f"{out}: the store would hold its own source {source}; give another folder as --out")
    found, rejections = discover(sources)
    found = [source for source in found if source.path not in store]
    rejections = [entry for entry in rejections if entry.path not in store]
    if not found and not rejections:
        places = ", ".join(str(source) for source in sources) or "no source given"
        raise UsageError(f"{places}: no DICOM, NIfTI or NumPy file there; give the folder that holds the scans")
    return found, rejections


def _convert_all(ledger: Ledger, root: Path, args: PrepareArgs) -> None:
    jobs = ledger.jobs
    workers = max(1, min(args.workers or available_cores(), len(jobs)))
    volume_bytes = prod(args.preprocess.size) * np.dtype(np.int16).itemsize
    done = 0
    total = ledger.unchanged + len(jobs)
    results = run_jobs(convert, jobs, workers)
    with Progress("preparing volumes", total, done=ledger.unchanged) as progress, closing(results):
        while done < len(jobs):
            left = len(jobs) - done
            way_out = (
                f"{left} volumes of up to {left * volume_bytes / 1e9:.2g} GB are left; mend this and run the same "
                "command again, it goes on where it was"
            )
            with write_failures(root, way_out):
                job, outcome = next(results)
                ledger.book(job, outcome)
            done += 1
            progress.advance()


def _write_tables(root: Path, left_out: list[Rejection], territory: Territory) -> None:
    """Compile index.parquet and quarantine.csv from what lies in the store, and this call's further rejections.

    Compiled rather than appended to, so that neither an interruption nor a second run beside this one loses a volume.
    """
    records = load_records(root)
    refusals = load_refusals(root)
    for identity in records.keys() & refusals.keys():
        refusals.pop(identity).remove(root)
    table = pd.DataFrame([record.row for record in records.values()], columns=list(COLUMNS)).astype(dict(COLUMNS))
    # keys depend on where the sources lie; the order of volumes, which training draws from, should not
    table = table.sort_values(["patient_id", "study_id", "series_id", "key"], ignore_index=True)
    content = BytesIO()
    table.to_parquet(content, index=False)
    write_if_changed(root / INDEX, content.getvalue())
    kept = [entry for entry in read_quarantine(root) if entry.path not in territory]
    standing = [refusal.rejection for refusal in refusals.values()]
    files = [entry for record in records.values() for entry in record.left_out]
    write_quarantine(root, [*kept, *standing, *files, *left_out])
