"""Opens the way to a receiver: C-STORE to an application entity, or STOW-RS to a DICOMweb server."""

import ssl
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

from pydicom.dataset import Dataset

from voco2d.extras import require
from voco2d.service.node_args import DimseTarget, NodeArgs, Target, WebTarget
from voco2d.service.web_client import web_client

_WARNINGS: Final = (0xB000, 0xB006, 0xB007)
"""The data set was stored with a remark, DICOM PS3.4 table B.2-1."""
_OF_THE_OBJECT: Final = (400, 409, 413, 415, 422)
"""HTTP statuses that speak of what was sent, PS3.18 table 10.5.3-1; the others speak of the server or of who asks."""

Kind = tuple[str, str]
"""SOP class and transfer syntax of an object."""
Store = Callable[[Dataset], str]
"""Sends an object; returns why it was not taken, or an empty text. Raises `AwayError`."""


class NotSentError(Exception):
    """A result did not arrive; says why, without identifiers."""


class AwayError(NotSentError):
    """The receiver takes nothing for now, whatever it is."""


class BrokenOffError(AwayError):
    """The receiver broke off while it was sent an object, which may be that object's fault."""


def connect(target: Target, kinds: Set[Kind], args: NodeArgs) -> AbstractContextManager[Store]:
    """Connect to a receiver for as long as the context lasts.

    Args:
        target: The receiver.
        kinds: Of what is to be sent; at most 128.
        args: Our title, certificates, and how long the receiver may be silent.

    Returns:
        Context manager of a function that sends one object.

    Raises:
        AwayError: Entering it, where nobody answers.
        NotSentError: Entering it, where the receiver takes none of these kinds.
    """
    return _web(target, args) if isinstance(target, WebTarget) else _association(target, kinds, args)


@contextmanager
def _association(target: DimseTarget, kinds: Set[Kind], args: NodeArgs) -> Iterator[Store]:
    pynetdicom = require("pynetdicom", "dicom", "sending results")
    entity = pynetdicom.AE(args.title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = args.timeout_s
    entity.connection_timeout = args.timeout_s  # else the system's, minutes where a receiver's queue is full
    for sop_class, syntax in sorted(kinds):
        entity.add_requested_context(sop_class, syntax)
    tls = None if args.certificate is None else (_client_tls(args), target.host)
    association = entity.associate(target.host, target.port, ae_title=target.title, tls_args=tls)
    if not association.is_established:
        if association.rejected_contexts:  # it answered, and takes none of these
            raise NotSentError("does not take this kind of object")
        raise AwayError("refused the association" if association.is_rejected else "no connection")
    try:
        yield partial(_store, association)
    finally:
        association.release()


def _store(association: Any, dataset: Dataset) -> str:
    if not association.is_established:
        raise AwayError("the connection broke")
    try:
        status = association.send_c_store(dataset).get("Status")
    except ValueError:
        return "does not take this kind of object"
    except Exception as error:  # an encoder may raise anything; its words may hold identifiers
        return type(error).__name__
    if status is None:
        raise BrokenOffError("the connection broke")
    return "" if status == 0 or status in _WARNINGS else f"status 0x{status:04X}"


def _client_tls(args: NodeArgs) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if args.authorities is None else str(args.authorities))
    assert args.certificate is not None
    context.load_cert_chain(args.certificate, args.key)
    return context


@contextmanager
def _web(target: WebTarget, args: NodeArgs) -> Iterator[Store]:
    yield partial(_stow, web_client(target.url, args))


def _stow(client: Any, dataset: Dataset) -> str:
    """Send by STOW-RS (DICOM PS3.18, 10.5), a request an object: the client holds a request in memory as a whole."""
    try:
        answer = client.store_instances(datasets=[dataset])
    except OSError as error:  # what the network library raises; its words may hold identifiers
        status = getattr(getattr(error, "response", None), "status_code", None)
        told = type(error).__name__ if status is None else f"HTTP status {status}"
        if status in _OF_THE_OBJECT:
            return told
        raise AwayError(told) from None
    except Exception as error:  # an encoder, or a reader of the answer
        return type(error).__name__
    return "refused by the server" if answer.get("FailedSOPSequence") else ""
