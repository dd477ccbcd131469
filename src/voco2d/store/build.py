"""From any mix of CT sources to a store: resumable, idempotent, many processes, nothing left out in silence."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from voco2d.errors import ConfigError, UsageError
from voco2d.io.discover import discover
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.preprocessing.organ_segmentation import load_totalsegmentator
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.progress import Progress
from voco2d.store.execution import check_execution, run_conversions
from voco2d.store.files import write_failures
from voco2d.store.layout import make_folders
from voco2d.store.ledger import Ledger
from voco2d.store.left_out import Territory, write_left_out
from voco2d.store.location import Location, absolute, parse_location
from voco2d.store.record import load_records
from voco2d.store.rsna_tables import copy_tables, find_roots
from voco2d.store.settings import StoreSettings, settle
from voco2d.store.tables import write_tables


@dataclass(frozen=True)
class PrepareArgs:
    """How a store is made.

    Args:
        preprocess: Body box, HU limits, size.
        read: How sources are read.
        workers: Processes; 0 starts one a core. Each holds one series in memory, up to about 1 GB.
        seconds_per_series: A series that takes longer is given up and quarantined; 0 for no limit.
        isolate: Read in processes of their own, so that a reader that crashes or hangs costs one series. False reads
            in this process, one series after the other, without a limit.
        dask: Address of a dask scheduler whose workers do the work instead; they must see sources and store under the
            same paths. `local` or `local:2` starts a small cluster here.
        masks: Folder of organ masks for `preprocess.organ_crop=masks`.
    """

    preprocess: PreprocessArgs = field(default_factory=PreprocessArgs)
    read: ReadArgs = field(default_factory=ReadArgs)
    workers: int = 0
    seconds_per_series: float = 900.0
    isolate: bool = True
    dask: str | None = None
    masks: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that can't work."""
        if not 0 <= self.seconds_per_series < float("inf"):
            raise ConfigError(f"seconds_per_series={self.seconds_per_series}: give seconds, or 0 for no limit")


@dataclass(frozen=True)
class PrepareSummary:
    """What a call of `prepare` did.

    Args:
        prepared: Volumes that were made or made anew.
        unchanged: Volumes that were there already; nothing was decoded for them.
        quarantined: Files and series of this call that were left out; quarantine.csv lists them.
        store: The store.
        vanished: Volumes that stay in the store although their sources are gone.
    """

    prepared: int
    unchanged: int
    quarantined: int
    store: Location
    vanished: int = 0


def prepare(sources: Sequence[Path], out: Location | str, args: PrepareArgs | None = None) -> PrepareSummary:
    """Prepare every CT volume below `sources` into the store `out`.

    A source that is in the store already and has not changed is not opened, nor one that was refused before by this
    version. One that changed is prepared anew. A volume whose source is gone stays, unless the same series is found
    elsewhere. An interrupted call leaves a store that is complete as far as it came; the same call goes on from there.

    Args:
        sources: Folders and files, as `discover` takes them.
        out: The store, new or made with the same settings: a folder, or a URL of any file system fsspec knows.
        args: Settings; the defaults when None.

    Raises:
        UsageError: A source is missing, there is nothing to prepare, or the URL or cluster can't be used.
        LabelError: The table of series in a competition folder can't be used.
        StoreError: The store has other settings or can't be written, or the disk is full.
    """
    args = args or PrepareArgs()
    if args.workers < 0:
        raise UsageError(f"workers={args.workers}; give the number of processes, or 0 for all cores")
    out = parse_location(out)
    given = [absolute(source) for source in sources]
    masks = _masks(args)
    check_execution(args.dask, out, given)
    found, rejections = _discover(given, out)
    roots = find_roots(given)
    settings = StoreSettings(preprocess=args.preprocess, read=args.read)
    with write_failures(out, "give a folder that can be written as --out"):
        settle(out, settings)
        make_folders(out)
        copy_tables(out, roots)
        territory = Territory([*given, *(source.path for source in found)])
        root = absolute(out) if isinstance(out, Path) else out  # workers may run in other folders
        ledger = Ledger(root, settings, found, rejections, territory, masks)
    try:
        _convert_all(ledger, out, args)
    except BaseException:
        with suppress(OSError):
            _finish(out, ledger, given, territory)
        raise
    with write_failures(out, "free some space or rights, then run the same command again"):
        _finish(out, ledger, given, territory)
    quarantined = len({(entry.path, entry.reason) for entry in ledger.left_out})
    return PrepareSummary(ledger.prepared, ledger.unchanged, quarantined, out, ledger.vanished)


def _finish(root: Location, ledger: Ledger, given: Sequence[Path], territory: Territory) -> None:
    make_folders(root)  # takes away what workers that were stopped left half written
    write_left_out(root, given, territory, ledger.unrecorded)
    write_tables(root)


def _masks(args: PrepareArgs) -> Path | None:
    if args.preprocess.organ_crop == "totalsegmentator":
        load_totalsegmentator()  # refused here, not once for each series
    if args.masks is None:
        return None
    masks = absolute(args.masks)
    if not masks.is_dir():
        raise UsageError(f"{args.masks}: no such folder of organ masks")
    return masks


def _discover(sources: Sequence[Path], out: Location) -> tuple[list[Source], list[Rejection]]:
    """Find sources, leaving aside the store itself where it lies below one of them."""
    given = Territory(sources)
    store = Territory([out] if isinstance(out, Path) else [])
    for source in sources:
        if source in store:
            raise UsageError(f"{out}: the store would hold its own source {source}; give another folder as --out")
    found, rejections = discover(sources)
    found = [source for source in found if source.path not in store]
    rejections = [entry for entry in rejections if entry.path not in store]
    if not found and not rejections and not any(record.source in given for record in load_records(out).values()):
        places = ", ".join(str(source) for source in sources) or "no source given"
        raise UsageError(
            f"{places}: no DICOM, NIfTI, NRRD, MetaImage or NumPy file there; give the folder that holds the scans"
        )
    return found, rejections


def _convert_all(ledger: Ledger, root: Location, args: PrepareArgs) -> None:
    jobs = ledger.jobs
    volume_bytes = prod(args.preprocess.size) * np.dtype(np.int16).itemsize
    done = 0
    total = ledger.unchanged + len(jobs)
    results = run_conversions(jobs, args.workers, args.seconds_per_series, args.isolate, args.dask)
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
