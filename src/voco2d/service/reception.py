"""Bounds what one association may cost: places, seconds, bytes of a protocol data unit, of a command and of an image.

pynetdicom itself shakes TLS hands in the thread that accepts everyone, waits for ever for the rest of a protocol data
unit, reads as many bytes as its first six promise, and leaves the images of broken associations in the folder for
temporary files, and the places of callers that went away taken. Needs the extra `dicom`.
"""

import logging
import ssl
import threading
import time
from typing import Any, Final, cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from voco2d.logs import wordless
from voco2d.service.receiver import Limits, Receiver

LEAST_PDU_LIMIT: Final = 1 << 18
"""What is proposed in an association request isn't bound by the size of data units (DICOM PS3.8, D.1)."""

_log = logging.getLogger(__name__)


class BoundedServer(ThreadedAssociationServer):
    """A server whose callers are bound by `limits`, which are set before it serves."""

    daemon_threads = True
    request_queue_size = 64
    limits: Limits

    def __init__(self, entity: ApplicationEntity, *args: Any, limits: Limits, **more: Any) -> None:
        self.limits = limits
        self._places = threading.BoundedSemaphore(limits.most_connections)
        more["request_handler"] = _Handler
        super().__init__(entity, *args, **more)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; hands are shaken later, in its own thread."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.settimeout(self.limits.timeout_s)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Take a place for a connection, if there is one."""
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            if _shakes_hands(request):
                self.finish_request(request, client_address)
            else:
                self.limits.tell("", "no TLS handshake")
        except Exception as error:  # whatever a caller made happen, the others are served
            _log.debug("%s", wordless(error))
            self.limits.tell("", "a connection that could not be served")
        finally:
            self.shutdown_request(request)
            self._places.release()


def _shakes_hands(request: Any) -> bool:
    """Return whether TLS could be agreed on, or none is spoken."""
    if isinstance(request, ssl.SSLSocket):
        try:
            request.do_handshake()
        except OSError:
            return False
    return True


class _Handler(RequestHandler):
    """Runs one association in the thread of its connection, until it has ended."""

    def handle(self) -> None:
        limits = cast("BoundedServer", self.server).limits
        association = self._create_association()
        connection = _BoundedSocket(cast("AssociationSocket", association.dul.socket), limits)
        association.dul.socket = connection
        receiver = Receiver(association, limits)
        association.dimse = receiver
        association.bind(evt.EVT_CONN_CLOSE, _let_go)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        fault = receiver.close()
        fault = connection.fault or fault
        if not fault and association.rejected_contexts and not association.accepted_contexts:
            fault = "an association that offers nothing this node takes, which is CT images only"
        if not fault and connection.received and not (association.is_released or association.is_rejected):
            fault = "an association that was broken off or not understood"
        if fault:
            limits.tell(str(association.requestor.ae_title or ""), fault)


def _let_go(event: evt.Event) -> None:
    """Let an association end whose caller went away before asking for one; it would wait until the time is up."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


class _BoundedSocket(AssociationSocket):
    """Takes the place of a socket of pynetdicom, and reads no more and no longer than is allowed."""

    def __init__(self, plain: AssociationSocket, limits: Limits) -> None:
        vars(self).update(vars(plain))
        self._limits = limits
        self.received = 0
        self.fault = ""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read a whole piece of a protocol data unit, or what came of it until the connection ended.

        Raises:
            OSError: It is too large, or did not come in time; pynetdicom then ends the association.
        """
        if nr_bytes > max(self._limits.most_pdu, LEAST_PDU_LIMIT):
            self.fault = "a protocol data unit larger than allowed"
            raise OSError(self.fault)
        buffer = bytearray(nr_bytes)
        view, read, end = memoryview(buffer), 0, time.monotonic() + self._limits.timeout_s
        while read < nr_bytes and self.socket is not None:
            try:
                self._check(end)
                count = self.socket.recv_into(view[read:])
            except TimeoutError:
                self.fault = "a protocol data unit that did not come in time"
                raise
            if not count:
                break
            read += count
        self.received += read
        return buffer[:read]

    @staticmethod
    def _check(end: float) -> None:
        if time.monotonic() > end:
            raise TimeoutError
