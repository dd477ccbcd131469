"""Receives CT images over the network: C-ECHO and C-STORE as a service class provider (DICOM PS3.4, A and B)."""

import logging
import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pydicom import dcmread

from voco2d.io.dicom_deflate import open_dicom
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.logs import wordless
from voco2d.service.audit import Audit
from voco2d.service.listener import CT_CLASSES, start_listener
from voco2d.service.node_args import NodeArgs
from voco2d.service.spool import Spool, SpoolFullError

if TYPE_CHECKING:
    from pynetdicom.events import Event

    from voco2d.service.receiver import Receiver

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_THIS_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
"""Statuses of C-STORE, PS3.4 table B.2-1."""

_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_HEADER_TAGS: list[Any] = ["SOPClassUID", "Modality", *_UIDS]
_UID: Final = re.compile("[0-9.]{1,64}")
"""Components that begin with 0 are against the standard and often met."""

_log = logging.getLogger(__name__)


class DicomNode:
    """Listens until it is closed; what it acknowledges is on disk.

    Args:
        args: Titles, address, limits.
        spool: Where images go.
        audit: Told who sent what.

    Raises:
        UsageError: pynetdicom is missing, the address can't be listened on, or a certificate can't be read.
    """

    def __init__(self, args: NodeArgs, spool: Spool, audit: Audit) -> None:
        self._args, self._spool, self._audit = args, spool, audit
        handlers = [("EVT_C_ECHO", self._echo), ("EVT_C_STORE", self._store), ("EVT_REJECTED", self._rejected)]
        self._server = start_listener(args, handlers, spool, self._refuse)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def _rejected(self, event: "Event") -> None:
        asked = event.assoc.requestor.primitive
        callers = [title.strip() for title in self._args.callers]
        if callers and asked is not None and asked.calling_ae_title not in callers:
            reason = "an association of a title that may not call"
        elif asked is not None and asked.called_ae_title != self._args.title.strip():
            reason = "an association that calls another title than ours"
        else:
            reason = "an association beyond the number that is allowed at a time"
        self._refuse(event.assoc.requestor.ae_title, reason)

    def _echo(self, event: "Event") -> int:
        self._audit.note("echo", event.assoc.requestor.ae_title, "")
        return SUCCESS

    def _store(self, event: "Event") -> int:
        """Keep one image. Whatever a sender makes of it, the answer is a status and the node goes on."""
        caller = event.assoc.requestor.ae_title
        receiver = cast("Receiver", event.assoc.dimse)
        path, trouble = receiver.take()
        study = ""
        try:
            study, series, image = _identity(path, trouble)
            assert path is not None
            self._spool.add(study, series, image, partial(_move, path))
            self._audit.note("stored", caller, study)
        except _RefusedError as refused:
            self._refuse(caller, refused.reason, study)
            return refused.status
        except SpoolFullError as full:
            self._refuse(caller, str(full), study)
            return OUT_OF_RESOURCES
        except (OSError, sqlite3.OperationalError) as error:
            self._refuse(caller, getattr(error, "strerror", None) or "the disk", study)
            return OUT_OF_RESOURCES
        finally:
            if path is not None:
                path.unlink(missing_ok=True)
        return SUCCESS

    def _refuse(self, caller: str, reason: str, study: str = "") -> None:
        """Note a refusal; a disk that can't be written changes nothing in what the caller is told."""
        _log.warning("refused: %s", reason)
        try:
            self._audit.note(f"refused: {reason}", caller, study)
            self._spool.ledger.refuse(reason)
        except (OSError, sqlite3.Error) as error:
            _log.error("a refusal could not be noted (%s)", type(error).__name__)


class _RefusedError(Exception):
    """An image is not taken."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def _identity(path: Path | None, trouble: str) -> tuple[str, str, str]:
    """Read the UIDs of study, series and image of a CT image.

    Args:
        path: The file, if there was a data set.
        trouble: Why it isn't whole, or empty.

    Raises:
        _RefusedError: It is none, or has no such UIDs.
    """
    if trouble:
        raise _RefusedError(OUT_OF_RESOURCES, trouble)
    if path is None:
        raise _RefusedError(CANNOT_UNDERSTAND, "no data set")
    try:
        with quiet_pydicom(), open_dicom(path, header_only=True) as file:
            header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
            sop_class, modality, *uids = (str(header.get(name) or "") for name in _HEADER_TAGS)
            ends = not file.read(1)
    except Exception as error:  # a decoder may raise anything over bytes that anybody sent
        _log.debug("%s", wordless(error))
        raise _RefusedError(CANNOT_UNDERSTAND, "no DICOM data set") from None
    if not sop_class:
        raise _RefusedError(CANNOT_UNDERSTAND, "no DICOM data set")
    if sop_class not in CT_CLASSES:
        raise _RefusedError(NOT_THIS_CLASS, "the data set is no CT image")
    if modality.strip().upper() not in ("", "CT"):
        raise _RefusedError(NOT_THIS_CLASS, "a CT image by its class, of another modality")
    if not all(map(_UID.fullmatch, uids)):
        raise _RefusedError(CANNOT_UNDERSTAND, "a UID is missing, or is none")
    if ends:
        raise _RefusedError(CANNOT_UNDERSTAND, "the data set ends before its pixels")
    study, series, image = uids
    return study, series, image


def _move(source: Path, target: Path) -> None:
    source.replace(target)
