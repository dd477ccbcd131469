"""Reads the headers of ordinary DICOM files a tenth as long as pydicom takes, and leaves all others to pydicom.

Ordinary is: a preamble, little endian, not deflated, no sequence of undefined length before the pixels, ASCII text and
the standard's VR for what is asked for. A series has hundreds of headers, which otherwise take longer than its pixels.
"""

import struct
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydicom.dataset import Dataset

START_BYTES = 2**15
"""Ordinary headers are shorter."""

_TAGS: Mapping[str, tuple[int, tuple[bytes, ...]]] = {
    "ImageType": (0x00080008, (b"CS",)),
    "SOPClassUID": (0x00080016, (b"UI",)),
    "SOPInstanceUID": (0x00080018, (b"UI",)),
    "AcquisitionDate": (0x00080022, (b"DA",)),
    "ContentDate": (0x00080023, (b"DA",)),
    "AcquisitionDateTime": (0x0008002A, (b"DT",)),
    "AcquisitionTime": (0x00080032, (b"TM",)),
    "ContentTime": (0x00080033, (b"TM",)),
    "Modality": (0x00080060, (b"CS",)),
    "PatientID": (0x00100020, (b"LO",)),
    "BodyPartExamined": (0x00180015, (b"CS",)),
    "SliceThickness": (0x00180050, (b"DS",)),
    "KVP": (0x00180060, (b"DS",)),
    "FilterType": (0x00181160, (b"SH",)),
    "ConvolutionKernel": (0x00181210, (b"SH",)),
    "StudyInstanceUID": (0x0020000D, (b"UI",)),
    "SeriesInstanceUID": (0x0020000E, (b"UI",)),
    "AcquisitionNumber": (0x00200012, (b"IS",)),
    "InstanceNumber": (0x00200013, (b"IS",)),
    "ImagePositionPatient": (0x00200032, (b"DS",)),
    "ImageOrientationPatient": (0x00200037, (b"DS",)),
    "TemporalPositionIdentifier": (0x00200100, (b"IS",)),
    "VolumeBasedCalculationTechnique": (0x00089207, (b"CS",)),
    "SamplesPerPixel": (0x00280002, (b"US",)),
    "PhotometricInterpretation": (0x00280004, (b"CS",)),
    "NumberOfFrames": (0x00280008, (b"IS",)),
    "Rows": (0x00280010, (b"US",)),
    "Columns": (0x00280011, (b"US",)),
    "PixelSpacing": (0x00280030, (b"DS",)),
    "BitsAllocated": (0x00280100, (b"US",)),
    "BitsStored": (0x00280101, (b"US",)),
    "HighBit": (0x00280102, (b"US",)),
    "PixelRepresentation": (0x00280103, (b"US",)),
    "PixelPaddingValue": (0x00280120, (b"US", b"SS")),
    "PixelPaddingRangeLimit": (0x00280121, (b"US", b"SS")),
    "RescaleIntercept": (0x00281052, (b"DS",)),
    "RescaleSlope": (0x00281053, (b"DS",)),
    "RescaleType": (0x00281054, (b"LO",)),
}
_VRS = dict(_TAGS.values())
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SYNTAX, _PIXELS = 0x00020010, 0x7FE00010
_SHORT = struct.Struct("<HH2sH")
_WORD = struct.Struct("<L")

Elements: TypeAlias = dict[int, bytes]


class PlainHeader:
    """The elements of an ordinary file that reading a slice asks for; stands in for pydicom's data set.

    Args:
        elements: Tag to value, as stored.
        syntax: Transfer syntax.
        pixels: Where in the file the pixel data element begins.
    """

    def __init__(self, elements: Elements, syntax: str, pixels: int) -> None:
        self._elements = elements
        self.file_meta = {"TransferSyntaxUID": syntax}
        self.original_encoding = (syntax == _IMPLICIT, True)
        self.pixels = pixels

    def get(self, keyword: str, default: Any = None) -> Any:
        """Value of an element: text, a number, or numbers where several are stored; `default` where it is absent.

        Raises:
            ValueError: A number is none.
        """
        assert keyword in _TAGS, keyword
        tag, vrs = _TAGS[keyword]
        data = self._elements.get(tag)
        if data is None:
            return default
        if vrs[0] == b"US":
            return int.from_bytes(data, "little")
        words = data.decode("ascii").rstrip("\0 ")
        if vrs[0] != b"DS" or not words:
            return words
        values = tuple(float(word) for word in words.split("\\"))
        return values if len(values) > 1 else values[0]


Header: TypeAlias = Dataset | PlainHeader


def parse_plain_header(start: bytes) -> PlainHeader | None:
    """Parse the first `START_BYTES` of a file; `None` where it is not an ordinary one and pydicom has to look."""
    if start[128:132] != b"DICM":
        return None
    try:
        meta, place = _explicit(start, 132, 0x00030000)
        syntax = meta[_SYNTAX].decode("ascii").rstrip("\0 ")
        if syntax in (_BIG_ENDIAN, _DEFLATED):
            return None
        if syntax == _IMPLICIT and start[place + 4 : place + 6].isupper():
            return None  # explicit after all: letters of a VR stand where the length of an element should
        walk = _implicit if syntax == _IMPLICIT else _explicit
        elements, place = walk(start, place, _PIXELS)
        if _SHORT.unpack_from(start, place)[:2] != (_PIXELS >> 16, _PIXELS & 0xFFFF):
            return None
    except (struct.error, KeyError, UnicodeDecodeError, _UnusualError):
        return None
    return PlainHeader(elements, syntax, place)


class _UnusualError(Exception):
    """Something that pydicom should look at."""


def _explicit(data: bytes, place: int, stop: int) -> tuple[Elements, int]:
    """Collect elements with explicit VR up to tag `stop`; also return where that begins."""
    found: Elements = {}
    while True:
        group, element, vr, length = _SHORT.unpack_from(data, place)
        tag = group << 16 | element
        if tag >= stop:
            return found, place
        begin = place + 8
        if vr in _LONG_VRS:
            (length,) = _WORD.unpack_from(data, begin)
            begin += 4
        elif not (vr.isalpha() and vr.isupper()):
            raise _UnusualError
        place = begin + length
        if tag == _SYNTAX:
            found[tag] = data[begin:place]
        elif tag in _VRS:
            found[tag] = _checked(data[begin:place], vr, tag)


def _implicit(data: bytes, place: int, stop: int) -> tuple[Elements, int]:
    found: Elements = {}
    while True:
        group, element, vr, _ = _SHORT.unpack_from(data, place)
        tag = group << 16 | element
        if tag >= stop:
            return found, place
        if vr.isalpha() and vr.isupper():
            raise _UnusualError  # most likely explicit in truth
        (length,) = _WORD.unpack_from(data, place + 4)
        begin, place = place + 8, place + 8 + length
        if tag in _VRS:
            found[tag] = _checked(data[begin:place], _VRS[tag][0], tag)


def _checked(data: bytes, vr: bytes, tag: int) -> bytes:
    is_binary = vr in (b"US", b"SS")
    if vr not in _VRS[tag] or (len(data) != 2 if is_binary else not data.isascii()):
        raise _UnusualError
    return data
