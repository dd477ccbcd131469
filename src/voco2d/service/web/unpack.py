"""Takes the scans out of an upload, judged by its content and within limits; no name from outside reaches the disk."""

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from voco2d.service.web.args import UploadLimits

_PIECE_BYTES: Final = 2**20
_ZIP_START: Final = b"PK\x03\x04"
_GZIP_START: Final = b"\x1f\x8b"
_DICOM_START: Final = 132
"""Bytes of a preamble and the letters DICM (DICOM PS3.10, 7.1)."""
_NIFTI_MAGIC: Final = ((344, (b"n+1\0",), 348), (4, (b"n+2\0",), 540))
"""Where the magic of a single NIfTI file stands, what it is, and the size that the header says it has."""
_NIFTI_START: Final = 540
_GZIP_WBITS: Final = 31
_ZIP_TAIL_BYTES: Final = 2**16 + 22 + 20 + 56
_ZIP64_BYTES: Final = 20 + 56
_LISTED_BYTES: Final = 1024
"""Of a file in the list of a zip, on average; its name is most of it."""
_PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

SCAN_NAME: Final = "scan.nii"
"""A NIfTI file on the disk; readers take the part before the dot for the patient's id."""


@runtime_checkable
class Upload(Protocol):
    """A file that is read and sought in."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place; return it."""


class UploadRefusedError(Exception):
    """An upload is not taken.

    Args:
        reason: Why, without a word from the upload.
        status: Of the HTTP answer.
    """

    def __init__(self, reason: str, status: int = 415) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def unpack(upload: Upload, folder: Path, limits: UploadLimits) -> int:
    """Write the scans of an upload into a folder.

    Args:
        upload: A zip of DICOM files, or a NIfTI file, plain or by gzip; it can be sought in.
        folder: Empty.
        limits: Of what is written.

    Returns:
        Files of the archive that were left out, since they are no DICOM files.

    Raises:
        UploadRefusedError: It is neither, damaged, or beyond a limit.
        OSError: It could not be written.
    """
    upload.seek(0)
    start = upload.read(_NIFTI_START)
    size = upload.seek(0, os.SEEK_END)
    upload.seek(0)
    budget = _Budget(limits, size, folder)
    if start.startswith(_ZIP_START):
        return _unpack_zip(upload, folder, budget)
    if start.startswith(_GZIP_START):
        _write_nifti(_inflated(upload), folder / SCAN_NAME, budget)
        return 0
    if _is_nifti(start):
        _write_nifti(_pieces(upload), folder / SCAN_NAME, budget)
        return 0
    raise UploadRefusedError("neither a zip of DICOM files nor a NIfTI file (.nii, .nii.gz)")


class _Budget:
    """Counts what was unpacked, and ends it at the first limit."""

    def __init__(self, limits: UploadLimits, packed_bytes: int, folder: Path) -> None:
        self.limits = limits
        self.packed_bytes = max(packed_bytes, 1)
        self._folder = folder
        self._bytes = 0

    def spend(self, count: int) -> None:
        limits = self.limits
        self._bytes += count
        if self._bytes > limits.unpacked_bytes:
            raise UploadRefusedError(f"holds more than {limits.unpacked_bytes} bytes unpacked", 413)
        if self._bytes > limits.ratio_from_bytes and self._bytes > limits.ratio * self.packed_bytes:
            raise UploadRefusedError(f"grows more than {limits.ratio:g} fold when it is unpacked", 413)
        if shutil.disk_usage(self._folder).free < limits.free_bytes:
            raise UploadRefusedError("the disk of the service is full", 507)


def _unpack_zip(upload: Upload, folder: Path, budget: _Budget) -> int:
    _refuse_long_directory(upload, budget.packed_bytes, budget.limits)
    with _damage_told("the zip is damaged"), zipfile.ZipFile(upload) as archive:
        entries = archive.infolist()
        if len(entries) > budget.limits.files:
            raise UploadRefusedError(f"the zip holds {len(entries)} files, at most {budget.limits.files}", 413)
        files = [entry for entry in entries if not entry.is_dir()]
        if any(entry.flag_bits & 1 for entry in files):
            raise UploadRefusedError("the zip is encrypted; send it without a password")
        if any(entry.compress_type not in _PACKINGS for entry in files):
            raise UploadRefusedError("the zip is packed in an unusual way; pack it by deflate")
        kept = 0
        for entry in files:
            with archive.open(entry) as member:
                kept += _keep_dicom(member, folder / f"{kept:06d}.dcm", budget)
    if not kept:
        raise UploadRefusedError("the zip holds no DICOM files")
    return len(files) - kept


def _keep_dicom(member: Upload, path: Path, budget: _Budget) -> bool:
    """Write a file of an archive if it begins as DICOM does; of others no more than the start is unpacked."""
    start = member.read(_DICOM_START)
    budget.spend(len(start))
    if start[128:] != b"DICM":
        return False
    size = len(start)
    with path.open("xb") as file:
        file.write(start)
        for piece in _pieces(member):
            budget.spend(len(piece))
            size += len(piece)
            if size > budget.limits.file_bytes:
                raise UploadRefusedError(f"a file of the zip holds more than {budget.limits.file_bytes} bytes", 413)
            file.write(piece)
    return True


def _write_nifti(pieces: Iterator[bytes], path: Path, budget: _Budget) -> None:
    start = b""
    with path.open("xb") as file, _damage_told("the compressed file is damaged"):
        for piece in pieces:
            budget.spend(len(piece))
            if len(start) >= _NIFTI_START:
                file.write(piece)
                continue
            start += piece
            if len(start) >= _NIFTI_START:
                if not _is_nifti(start):
                    break
                file.write(start)
    if len(start) < _NIFTI_START or not _is_nifti(start):
        raise UploadRefusedError("the compressed file is no NIfTI file (.nii.gz)")


def _is_nifti(start: bytes) -> bool:
    """Whether a single NIfTI file begins so: its magic, and the header's own size in either byte order."""
    for offset, magics, header_size in _NIFTI_MAGIC:
        if start[offset : offset + 4] in magics:
            return header_size in struct.unpack("<i", start[:4]) + struct.unpack(">i", start[:4])
    return False


def _pieces(file: Upload) -> Iterator[bytes]:
    return iter(partial(file.read, _PIECE_BYTES), b"")


def _inflated(file: Upload) -> Iterator[bytes]:
    """Yield what a gzip file of one or more members holds, never more than a piece at a time."""
    inflater = zlib.decompressobj(wbits=_GZIP_WBITS)
    for packed in _pieces(file):
        waiting = packed
        while waiting:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=_GZIP_WBITS)
            piece = inflater.decompress(waiting, _PIECE_BYTES)
            waiting = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if piece:
                yield piece
    if not inflater.eof:
        raise EOFError


def _refuse_long_directory(upload: Upload, size: int, limits: UploadLimits) -> None:
    """Refuse an archive whose list of files is far too long, before the list is read into memory (APPNOTE 4.3.16)."""
    upload.seek(max(0, size - _ZIP_TAIL_BYTES))
    tail = upload.read(_ZIP_TAIL_BYTES)
    upload.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 16 > len(tail):
        raise UploadRefusedError("the zip is damaged")
    (listed_bytes,) = struct.unpack_from("<L", tail, end + 12)
    large = end - _ZIP64_BYTES
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        (listed_bytes,) = struct.unpack_from("<Q", tail, large + 40)
    if listed_bytes > limits.files * _LISTED_BYTES:
        raise UploadRefusedError(f"the zip holds far more than {limits.files} files", 413)


@contextmanager
def _damage_told(reason: str) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        ValueError,
        struct.error,
        OverflowError,
    ) as error:
        raise UploadRefusedError(reason) from error
