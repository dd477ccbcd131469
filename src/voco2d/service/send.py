"""Sends results that are due, one file at a time."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from voco2d.service.audit import Audit
from voco2d.service.delivery import AwayError, BrokenOffError, Kind, NotSentError, Store, connect
from voco2d.service.ledger import Ledger
from voco2d.service.node_args import NodeArgs, Target, WebTarget
from voco2d.service.outgoing import Outgoing

_MOST_AT_ONCE: Final = 100
"""Results that one association carries."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Try:
    """What became of a result: it arrived, it is to be tried again, or it is of no use to try it again.

    `is_away`: nothing was said of it, as the receiver takes nothing for now.
    """

    entry: Outgoing
    reason: str = ""
    is_final: bool = False
    is_away: bool = False


def spell(target: Target) -> str:
    """Spell a target as the command line and the ledger do."""
    return target.url if isinstance(target, WebTarget) else f"{target.title}@{target.host}:{target.port}"


def send_due(ledger: Ledger, folder: Path, args: NodeArgs, audit: Audit) -> int:
    """Try once to send what is due, at most 100 results a target; what doesn't arrive is tried again later.

    A file that can't be read costs itself alone: it is given up.

    Args:
        ledger: Knows what is due.
        folder: Of the spool.
        args: Our title and the targets.
        audit: Told what is given up.

    Returns:
        How many arrived.
    """
    targets = {spell(target): target for target in args.targets}
    due = ledger.due()
    arrived = 0
    for name in sorted({entry.target for entry in due}):
        entries = [entry for entry in due if entry.target == name]
        if name in targets:
            tries = _send(targets[name], folder, entries, args)
        else:
            tries = (_Try(entry, "no target of this node any more") for entry in entries)
        waiting: Counter[str] = Counter()
        for told in tries:
            if not told.reason:
                ledger.sent(told.entry)
                arrived += 1
            elif ledger.not_sent(told.entry, told.reason, told.is_final, told.is_away):
                audit.note(f"result given up: {told.reason}", "", digest=told.entry.study, target=name)
                _log.error("%s: a result of study %s is given up: %s", name, told.entry.study, told.reason)
            else:
                waiting[told.reason] += 1
        if waiting:
            _log.warning("%s: %d results not sent yet (%s)", name, waiting.total(), "; ".join(sorted(waiting)))
    return arrived


def _send(target: Target, folder: Path, entries: Sequence[Outgoing], args: NodeArgs) -> Iterator[_Try]:
    """Send the first of these, and tell of each what became of it; what nothing is told of was not tried.

    Where the receiver breaks off at an object, that may be the object's fault: nothing is told of those after it, so
    they go first the next time. Where it takes nothing from the first on, all are told; the one that was tried comes
    last, so that another goes first the next time.
    """
    batch: list[Outgoing] = []
    kinds: set[Kind] = set()
    for entry in entries[:_MOST_AT_ONCE]:
        try:
            kinds.add(_kind(folder / entry.file))
        except Exception as error:
            yield _unread(entry, error)
        else:
            batch.append(entry)
    if not batch:
        return
    tried = 0
    try:
        with connect(target, kinds, args) as store:
            for entry in batch:
                told = _deliver(entry, folder / entry.file, store)
                tried += 1
                yield told
    except AwayError as error:
        others = [] if tried else [*batch[1:], *entries[_MOST_AT_ONCE:]]
        yield from (_Try(entry, str(error), is_away=True) for entry in others)
        yield _Try(batch[tried], str(error), is_away=not isinstance(error, BrokenOffError))
    except Exception as error:  # a network may raise anything; its words may hold identifiers
        was_told = isinstance(error, NotSentError)
        reason = str(error) if was_told else type(error).__name__
        yield from (_Try(entry, reason, is_away=not was_told) for entry in batch[tried:])


def _deliver(entry: Outgoing, path: Path, store: Store) -> _Try:
    """Read a result and send it; no more than one is in memory."""
    try:
        dataset = dcmread(path)
    except Exception as error:
        return _unread(entry, error)
    return _Try(entry, store(dataset))


def _kind(path: Path) -> Kind:
    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _unread(entry: Outgoing, error: Exception) -> _Try:
    """Tell of a file that can't be read: one that is gone or damaged stays so, a disk or memory may recover."""
    may_recover = isinstance(error, OSError | MemoryError) and not isinstance(error, FileNotFoundError)
    return _Try(entry, f"can't be read ({type(error).__name__})", not may_recover)
