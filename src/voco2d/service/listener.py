"""Opens the port of the DICOM node: titles, presentation contexts, TLS (DICOM PS3.7, PS3.8, PS3.15)."""

import logging
import ssl
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
from voco2d.service.node_args import NodeArgs
from voco2d.service.spool import Spool

if TYPE_CHECKING:
    from voco2d.service.reception import BoundedServer

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

_VERIFICATION: Final = "1.2.840.10008.1.1"


def start_listener(
    args: NodeArgs, handlers: list[tuple[str, Any]], spool: Spool, tell: Callable[[str, str], None]
) -> "BoundedServer":
    """Listen, in a thread of its own.

    Args:
        args: Titles, address, limits.
        handlers: Name of an event of pynetdicom, and what is called then.
        spool: Images are written to its disk while they come.
        tell: Called with the title of a caller and what its association ended for.

    Raises:
        UsageError: pynetdicom is missing, the address can't be listened on, or a certificate can't be read.
    """
    pynetdicom = require("pynetdicom", "dicom", "voco2d listen")
    events = pynetdicom.evt
    config = require("pynetdicom._config", "dicom", "voco2d listen")
    config.LOG_HANDLER_LEVEL = "none"  # its own logs spell out data sets, its errors quote them
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    entity = pynetdicom.AE(args.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(args.callers)
    entity.maximum_associations = args.most_associations
    entity.maximum_pdu_size = args.max_pdu
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = args.timeout_s
    entity.add_supported_context(_VERIFICATION)
    for sop_class in CT_CLASSES:
        entity.add_supported_context(sop_class, list(SYNTAXES))
    named = [(getattr(events, name), handler) for name, handler in handlers]
    reception: Any = import_module("voco2d.service.reception")  # not before pynetdicom is known to be there
    limits = reception.Limits(
        folder=spool.incoming,
        timeout_s=args.timeout_s,
        most_pdu=args.max_pdu,
        most_image=args.most_image_bytes,
        most_connections=2 * args.most_associations,
        lack=spool.lack,
        tell=tell,
    )
    try:
        server: BoundedServer = entity.make_server(
            (args.host, args.port),
            ssl_context=server_tls(args),
            evt_handlers=named,
            server_class=reception.BoundedServer,
            limits=limits,
        )
    except OSError as error:
        raise UsageError(f"{args.host}:{args.port}: can't listen there: {error.strerror}; choose another") from error
    entity._servers.append(server)  # as its `start_server` does, which takes no class
    threading.Thread(target=server.serve_forever, name="listener", daemon=True).start()
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
