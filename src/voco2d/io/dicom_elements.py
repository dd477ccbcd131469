"""Reads single elements of a DICOM header, whatever reader it came from and however damaged they are."""

import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from pydicom.errors import BytesLengthException, InvalidDicomError

from voco2d.io.dicom_plain import Header

DAMAGED_FILE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on damaged files."""


def text(header: Header, tag: str) -> str:
    """Value of a text element, stripped; empty where it is absent, empty or unreadable."""
    try:
        value = header.get(tag)
    except DAMAGED_FILE_ERRORS:
        return ""
    return "" if value is None else str(value).strip().strip("\0")


def modality_word(header: Header) -> str:
    """Modality as a short code, "" where absent, "unknown" where it is no code (and might be anything)."""
    modality = text(header, "Modality").upper()
    return modality if re.fullmatch(r"[A-Z0-9]{0,16}", modality) else "unknown"


def words(header: Header, tag: str) -> str:
    """Values of a text element that may have several, joined by backslashes as they are stored."""
    try:
        value: Any = header.get(tag)
    except DAMAGED_FILE_ERRORS:
        return ""
    if value is None or isinstance(value, str):
        return (value or "").strip()
    return "\\".join(str(word).strip() for word in value) if isinstance(value, Sequence) else str(value)


def numbers(header: Header, tag: str) -> tuple[float, ...]:
    """Values of a numeric element; empty where it is absent or not numeric."""
    try:
        value: Any = header.get(tag)
        if value is None or value == "":
            return ()
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(float(item) for item in values)
    except DAMAGED_FILE_ERRORS:
        return ()
