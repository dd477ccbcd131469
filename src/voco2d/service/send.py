"""Sends results: C-STORE to an application entity, or STOW-RS to a DICOMweb server."""

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset

from voco2d.extras import require
from voco2d.service.ledger import Ledger, Outgoing
from voco2d.service.node_args import DimseTarget, NodeArgs, Target, WebTarget
from voco2d.service.web_client import web_client

_WARNINGS: Final = (0xB000, 0xB006, 0xB007)
"""The data set was stored with a remark, DICOM PS3.4 table B.2-1."""

_log = logging.getLogger(__name__)


class NotSentError(Exception):
    """A result did not arrive; says why, without identifiers."""


def spell(target: Target) -> str:
    """Spell a target as the command line and the ledger do."""
    return target.url if isinstance(target, WebTarget) else f"{target.title}@{target.host}:{target.port}"


def send_due(ledger: Ledger, folder: Path, args: NodeArgs) -> int:
    """Try once to send what is due; what doesn't arrive is tried again later.

    Args:
        ledger: Knows what is due.
        folder: Of the spool.
        args: Our title and the targets.

    Returns:
        How many arrived.
    """
    targets = {spell(target): target for target in args.targets}
    due = ledger.due()
    arrived = 0
    for name in sorted({entry.target for entry in due}):
        entries = [entry for entry in due if entry.target == name]
        if name not in targets:
            reasons: dict[str, str] = dict.fromkeys(
                (entry.file for entry in entries), "no target of this node any more"
            )
        else:
            reasons = _send(targets[name], [folder / entry.file for entry in entries], entries, args)
        for entry in entries:
            reason = reasons.get(entry.file, "")
            if reason:
                ledger.not_sent(entry, reason)
            else:
                ledger.sent(entry)
                arrived += 1
        failed = {reason for reason in reasons.values() if reason}
        if failed:
            count = sum(1 for reason in reasons.values() if reason)
            _log.warning("%s: %d results not sent yet (%s)", name, count, "; ".join(sorted(failed)))
    return arrived


def _send(target: Target, paths: Sequence[Path], entries: Sequence[Outgoing], args: NodeArgs) -> dict[str, str]:
    """Send files; return what went wrong by file."""
    try:
        datasets = [dcmread(path) for path in paths]
        answers = _store(target, datasets, args) if isinstance(target, DimseTarget) else _stow(target, datasets, args)
    except Exception as error:
        # a network, a server or a damaged file may raise anything; its words may hold identifiers
        reason = str(error) if isinstance(error, NotSentError) else type(error).__name__
        return {entry.file: reason for entry in entries}
    return {entry.file: answer for entry, answer in zip(entries, answers, strict=True)}


def _store(target: DimseTarget, datasets: Sequence[Dataset], args: NodeArgs) -> list[str]:
    """Send by C-STORE in one association; return an empty text for each that arrived, else the reason."""
    pynetdicom = require("pynetdicom", "dicom", "sending results")
    entity = pynetdicom.AE(args.title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = args.timeout_s
    kinds = {(str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)) for dataset in datasets}
    for sop_class, syntax in sorted(kinds):
        entity.add_requested_context(sop_class, syntax)
    tls = None if args.certificate is None else (_client_tls(args), target.host)
    association = entity.associate(target.host, target.port, ae_title=target.title, tls_args=tls)
    if not association.is_established:
        if association.rejected_contexts:  # it answered, and takes none of these
            raise NotSentError("does not take this kind of object")
        raise NotSentError("refused the association" if association.is_rejected else "no connection")
    try:
        return [_one(association, dataset) for dataset in datasets]
    finally:
        association.release()


def _one(association: "object", dataset: Dataset) -> str:
    try:
        status = association.send_c_store(dataset).get("Status")  # type: ignore[attr-defined]
    except ValueError:
        return "does not take this kind of object"
    if status is None:
        return "the connection broke"
    return "" if status == 0 or status in _WARNINGS else f"status 0x{status:04X}"


def _client_tls(args: NodeArgs) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if args.authorities is None else str(args.authorities))
    assert args.certificate is not None
    context.load_cert_chain(args.certificate, args.key)
    return context


def _stow(target: WebTarget, datasets: Sequence[Dataset], args: NodeArgs) -> list[str]:
    """Send by STOW-RS (DICOM PS3.18, 10.5) in one request."""
    answer = web_client(target.url, args).store_instances(datasets=list(datasets))
    failed = {str(item.ReferencedSOPInstanceUID) for item in answer.get("FailedSOPSequence", [])}
    return ["refused by the server" if str(entry.SOPInstanceUID) in failed else "" for entry in datasets]
