"""Writes what comes in over one association to files, within limits. Needs the extra `dicom`."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from pydicom.filewriter import write_file_meta_info
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA

from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.logs import wordless

_MOST_COMMAND: Final = 1 << 16
_MOST_REQUESTS: Final = 16
_LAST, _COMMAND = 2, 1
"""Bits of a fragment's control header, PS3.8 E.2."""

_log = logging.getLogger(__name__)


class LimitError(Exception):
    """A caller did what ends its association; says what, without identifiers."""


@dataclass(frozen=True)
class Limits:
    """How much a caller may take.

    Args:
        folder: Where images are written while they come; on the disk of the spool.
        timeout_s: Of a TLS handshake, and of a protocol data unit from its first byte to its last, seconds.
        most_pdu: Largest protocol data unit, bytes.
        most_image: Largest data set, bytes.
        most_connections: At a time; those above are closed at once.
        lack: Says why no image can be taken in, or nothing where there is room.
        tell: Called with the title of a caller and what it was refused for.
    """

    folder: Path
    timeout_s: float
    most_pdu: int
    most_image: int
    most_connections: int
    lack: Callable[[], str]
    tell: Callable[[str, str], None]


class Receiver(DIMSEServiceProvider):
    """Writes the data sets of an association to files as they come, one at a time.

    Args:
        association: It belongs to.
        limits: See there.
    """

    def __init__(self, association: Association, limits: Limits) -> None:
        super().__init__(association)
        self._limits = limits
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self._whole: Path | None = None
        self._size = self._command = 0
        self._fault = self._trouble = ""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take what a protocol data unit holds; what can't be understood ends the association, not its thread."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, fragment)
        except Exception as error:  # a decoder may raise anything over bytes that anybody sent
            _log.debug("%s", wordless(error))
            self._fault = str(error) if isinstance(error, LimitError) else "a message that can't be understood"
            self.dul.event_queue.put("Evt19")

    def take(self) -> tuple[Path | None, str]:
        """Return the file of the data set that came with the message being served, and why it is not whole.

        The caller deletes or moves the file.
        """
        path, self._whole = self._whole, None
        return path, self._trouble

    def close(self) -> str:
        """Delete what was not taken; return what ended the association, or an empty text."""
        unfinished = self._file is not None
        if self._file is not None:
            self._file.close()
        for path in (self._path, self._whole):
            if path is not None:
                path.unlink(missing_ok=True)
        return self._fault or ("an image that was not sent to its end" if unfinished else "")

    def _receive(self, context_id: int, fragment: bytes) -> None:
        control = fragment[0]
        if control & _COMMAND:
            self._command += len(fragment)
            if self._command > _MOST_COMMAND:
                raise LimitError("a command larger than allowed")
            if self.msg_queue.qsize() >= _MOST_REQUESTS:
                raise LimitError("more requests at once than allowed")
        else:
            self._write(context_id, fragment)
            fragment = fragment[:1]  # pynetdicom would keep the rest in memory
        single = P_DATA()
        single.presentation_data_value_list = [[context_id, fragment]]  # type: ignore[list-item]
        with quiet_pydicom():
            super().receive_primitive(single)
        if control & _LAST:
            self._command = 0

    def _write(self, context_id: int, fragment: bytes) -> None:
        if self._file is None:
            self._begin(context_id)
        assert self._file is not None
        self._size += len(fragment) - 1
        if self._size > self._limits.most_image:
            raise LimitError("an image larger than allowed")
        try:
            if not self._trouble:
                self._file.write(fragment[1:])
            if fragment[0] & _LAST:
                self._file.close()
        except OSError as error:
            self._trouble = error.strerror or "the disk"
        if fragment[0] & _LAST:
            self._whole, self._path, self._file = self._path, None, None

    def _begin(self, context_id: int) -> None:
        if self._whole is not None:
            raise LimitError("another image before the last was answered")
        command = None if self.message is None else self.message.command_set
        if command is None or "AffectedSOPClassUID" not in command:
            raise LimitError("a data set without a command")
        syntax = self.assoc._accepted_cx[context_id].transfer_syntax[0]
        with quiet_pydicom():
            meta = create_file_meta(
                sop_class_uid=command.AffectedSOPClassUID,
                sop_instance_uid=command.AffectedSOPInstanceUID,
                transfer_syntax=syntax,
            )
            self._size, self._trouble = 0, self._limits.lack()
            self._path = self._limits.folder / uuid.uuid4().hex
            self._file = self._path.open("wb")
            _write_meta(self._file, meta)


def _write_meta(file: IO[bytes], meta: Any) -> None:
    file.write(bytes(128) + b"DICM")
    write_file_meta_info(cast("Any", file), meta)
