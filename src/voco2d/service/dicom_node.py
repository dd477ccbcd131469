"""Receives CT images over the network: C-ECHO and C-STORE as a service class provider (DICOM PS3.4, A and B)."""

import logging
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from voco2d.errors import UsageError
from voco2d.extras import require
from voco2d.logs import wordless
from voco2d.service.audit import Audit
from voco2d.service.node_args import NodeArgs
from voco2d.service.spool import Spool, SpoolFullError

if TYPE_CHECKING:
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""What is taken in; other pictures are refused when the association is negotiated."""
SYNTAXES: Final[tuple[UID, ...]] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_THIS_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
"""Statuses of C-STORE, PS3.4 table B.2-1."""

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
        self._spool, self._audit = spool, audit
        self._server = _start(args, [("EVT_C_ECHO", self._echo), ("EVT_C_STORE", self._store)], audit)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def _echo(self, event: "Event") -> int:
        self._audit.note("echo", event.assoc.requestor.ae_title, "")
        return SUCCESS

    def _store(self, event: "Event") -> int:
        """Keep one image. Whatever a sender makes of it, the answer is a status and the node goes on."""
        caller = event.assoc.requestor.ae_title
        try:
            received = Path(event.dataset_path)
            header = _header(received)
            study, series, image = (str(header.get(name, "")) for name in _UIDS)
        except Exception as error:  # a decoder may raise anything over bytes that anybody sent
            _log.debug("%s", wordless(error))
            self._audit.note("refused: no DICOM data set", caller, "")
            return CANNOT_UNDERSTAND
        if header.get("SOPClassUID", "") not in CT_CLASSES:
            self._audit.note("refused: the data set is no CT image", caller, study)
            return NOT_THIS_CLASS
        if not (study and series and image):
            self._audit.note("refused: a UID is missing", caller, study)
            return CANNOT_UNDERSTAND
        try:
            self._spool.add(study, series, image, lambda part: _copy(received, part))
        except (SpoolFullError, OSError) as error:
            reason = str(error) if isinstance(error, SpoolFullError) else error.strerror or "the disk"
            _log.error("an image was refused: %s", reason)
            self._audit.note(f"refused: {reason}", caller, study)
            return OUT_OF_RESOURCES
        self._audit.note("stored", caller, study)
        return SUCCESS


def _start(args: NodeArgs, handlers: list[tuple[str, Any]], audit: Audit) -> "ThreadedAssociationServer":
    pynetdicom = require("pynetdicom", "dicom", "voco2d listen")
    events = pynetdicom.evt
    config = require("pynetdicom._config", "dicom", "voco2d listen")
    config.STORE_RECV_CHUNKED_DATASET = True  # data sets go to disk as they come, whatever their size
    config.LOG_HANDLER_LEVEL = "none"  # its own logs spell out data sets
    entity = pynetdicom.AE(args.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(args.callers)
    entity.maximum_associations = args.most_associations
    entity.maximum_pdu_size = args.max_pdu
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = args.timeout_s
    entity.add_supported_context("1.2.840.10008.1.1")
    for sop_class in CT_CLASSES:
        entity.add_supported_context(sop_class, list(SYNTAXES))
    named = [(getattr(events, name), handler) for name, handler in handlers]
    rejected = (events.EVT_REJECTED, lambda event: audit.note("rejected", event.assoc.requestor.ae_title, ""))
    try:
        server: ThreadedAssociationServer = entity.start_server(
            (args.host, args.port), block=False, ssl_context=server_tls(args), evt_handlers=[*named, rejected]
        )
    except OSError as error:
        raise UsageError(f"{args.host}:{args.port}: can't listen there: {error.strerror}; choose another") from error
    return server


def server_tls(args: NodeArgs) -> ssl.SSLContext | None:
    """Return what TLS 1.2 or newer is spoken with (DICOM PS3.15, B.9 and later profiles), or None without one.

    Raises:
        UsageError: A file can't be read or the key doesn't fit.
    """
    if args.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(args.certificate, args.key)
        if args.authorities is not None:
            context.load_verify_locations(args.authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{args.certificate}: no certificate with that key, or no authorities: {error}") from error
    return context


def _header(path: Path) -> Dataset:
    from pydicom import dcmread

    return dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)


_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_HEADER_TAGS: list[Any] = ["SOPClassUID", *_UIDS]


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
