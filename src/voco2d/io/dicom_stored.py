"""Reads the stored values of the frames of an open DICOM file, whatever its transfer syntax (PS3.5 8 and A.4)."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from rle.utils import decode_pixel_data

from voco2d.errors import ReadError
from voco2d.io.dicom_codestream import MAX_SLICE_PIXELS, refuse_other_size
from voco2d.io.dicom_deflate import OpenDicom
from voco2d.io.dicom_plain import Header

_FASTEST_DECODER = {
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
}
_END_OF_IMAGE = b"\xff\xd9"
_ANY_DECODER = "pylibjpeg"
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_GREY = ("MONOCHROME1", "MONOCHROME2")


class StoredFrames:
    """What the Image Pixel module (PS3.3 C.7.6.3) says of the frames of a file, and their stored values.

    Args:
        file: Open, positioned where pydicom stopped before the pixels.
        dataset: Its header.
        path: Where it lies.

    Raises:
        ReadError: There are no pixels, or they are in colour.
        ValueError: The header promises what the file can't hold.
    """

    def __init__(self, file: OpenDicom, dataset: Header, path: Path) -> None:
        self._file = file
        implicit, little = dataset.original_encoding
        self._is_little = bool(little)
        self._syntax = _syntax(dataset, bool(implicit), self._is_little)
        self._length = _find_pixels(file, bool(implicit), self._is_little)
        if self._length == 0:
            raise ReadError(path, "no pixel data, or cut short")
        self._start = file.tell()
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise ReadError(path, "colour pixels, not a grey slice")
        self.photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip()
        if self.photometric not in _GREY:
            raise ReadError(path, "colour pixels, not a grey slice")
        self.count = int(dataset.get("NumberOfFrames") or 1)
        self._shape = (_whole(dataset, "Rows"), _whole(dataset, "Columns"))
        self._bits = _whole(dataset, "BitsAllocated")
        self._stored_bits = int(dataset.get("BitsStored") or self._bits)
        self._high_bit = int(dataset.get("HighBit", self._stored_bits - 1))
        self._is_signed = int(dataset.get("PixelRepresentation") or 0) == 1
        self._check()
        self.padding = self._padding(dataset)

    @property
    def highest(self) -> int:
        """What a stored value and its inverse add up to."""
        return -1 if self._is_signed else int(2**self._stored_bits - 1)

    def read(self, frame: int) -> Num[np.ndarray, "H W"]:
        """Decode the stored values of one frame, without the bits that hold none.

        Raises:
            ValueError: There is no such frame, or it is of another size than the header says.
            RuntimeError: The decoder panicked.
        """
        if not 0 <= frame < self.count:
            raise ValueError(f"frame {frame} of {self.count}")
        if not self._syntax.is_encapsulated:
            return self._values(self._native(frame))
        self._file.seek(self._start)
        data = get_frame(self._file, frame, number_of_frames=self.count)
        refuse_other_size(data, self._syntax, self._shape, self._bits)
        if self._syntax != uid.RLELossless and not data.rstrip(b"\0").endswith(_END_OF_IMAGE):
            # other decoders make up the rest of the picture, and CharLS searches for seconds
            raise ValueError("cut short: no end of image")
        try:
            if self._syntax == uid.RLELossless:
                rows, columns = self._shape
                words = decode_pixel_data(
                    data, version=2, rows=rows, columns=columns, bits_allocated=self._bits, byteorder="<"
                )
                return self._values(np.frombuffer(words, f"<u{self._bits // 8}").reshape(self._shape))
            return self._decode(data)
        except BaseException as error:
            # PyO3's PanicException derives from BaseException, has no importable name, and would end the whole run
            if type(error).__name__ != "PanicException":
                raise
            raise RuntimeError("the decoder panicked") from error

    def _check(self) -> None:
        rows, columns = self._shape
        if not (rows >= 1 and columns >= 1 and rows * columns <= MAX_SLICE_PIXELS and self.count >= 1):
            raise ValueError(f"{self.count} frames of {rows} x {columns} pixels are no CT")
        if self._bits not in (8, 16, 32) or not 8 <= self._stored_bits <= self._bits:
            raise ValueError(f"{self._stored_bits} of {self._bits} bits are no CT")
        if not self._stored_bits <= self._high_bit + 1 <= self._bits:
            self._high_bit = self._stored_bits - 1
        if self._syntax.is_encapsulated != (self._length == _UNDEFINED):
            raise ValueError("the transfer syntax and the pixel data disagree on compression")
        if not self._syntax.is_encapsulated and self._length < self.count * rows * columns * (self._bits // 8):
            raise ValueError(f"cut short: {self._length} bytes for {self.count} frames of {rows} x {columns} pixels")

    def _native(self, frame: int) -> Num[np.ndarray, "H W"]:
        size = self._shape[0] * self._shape[1] * (self._bits // 8)
        self._file.seek(self._start + frame * size)
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError(f"cut short: {len(data)} of {size} bytes of the frame")
        if self._bits == 8 and not self._is_little:
            # bytes are stored in words of two, each swapped; explicit big endian is retired, odd sizes are not met
            return np.frombuffer(data, ">u2").astype("<u2").view(np.uint8).reshape(self._shape)
        stored = np.frombuffer(data, f"{'<' if self._is_little else '>'}u{self._bits // 8}")
        return stored.reshape(self._shape)

    def _values(self, words: Num[np.ndarray, "H W"]) -> Num[np.ndarray, "H W"]:
        """Take the stored bits out of their words; what other bits hold is undefined (PS3.5 8.1.1)."""
        if not self._is_signed and self._high_bit == self._stored_bits - 1:
            word = np.dtype(f"u{self._bits // 8}")
            masked: Num[np.ndarray, "H W"] = np.bitwise_and(words, word.type(self.highest), dtype=word)
            return masked
        kind = "i" if self._is_signed else "u"
        values = words.astype(f"u{self._bits // 8}").view(f"{kind}{self._bits // 8}")
        left, right = self._bits - 1 - self._high_bit, self._bits - self._stored_bits
        if right:
            if left:
                values <<= left
            values >>= right
        return values

    def _decode(self, data: bytes) -> Num[np.ndarray, "H W"]:
        options: dict[str, Any] = {
            "rows": self._shape[0],
            "columns": self._shape[1],
            "number_of_frames": 1,
            "samples_per_pixel": 1,
            "photometric_interpretation": "MONOCHROME2",
            "bits_allocated": self._bits,
            "bits_stored": self._stored_bits,
            "pixel_representation": int(self._is_signed),
            "pixel_keyword": "PixelData",
            "pixel_vr": "OB",
        }
        plugin = _FASTEST_DECODER.get(self._syntax, _ANY_DECODER)
        frames = encapsulate([data], has_bot=False)
        stored, _ = get_decoder(self._syntax).as_array(frames, index=0, raw=True, decoding_plugin=plugin, **options)
        return stored

    def _padding(self, dataset: Header) -> tuple[int, int] | None:
        """Lowest and highest stored value that are padding (PS3.3 C.7.5.1.1.2)."""
        try:
            values = [dataset.get(tag) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
            first, last = (None if value in (None, "") else self._as_stored(value) for value in values)
        except (TypeError, ValueError, struct.error):
            return None
        if first is None:
            return None
        last = first if last is None else last
        return min(first, last), max(first, last)

    def _as_stored(self, value: object) -> int:
        """A value of ambiguous VR (US or SS) as one of the stored values; some writers sign it wrongly."""
        data = bytes(value) if isinstance(value, bytes | bytearray) else None
        number = struct.unpack("<H", data[:2])[0] if data is not None else int(value)  # type: ignore[call-overload]
        if self._is_signed and number >= 2**15:
            return int(number) - 2**16
        return int(number) % 2**16 if not self._is_signed and number < 0 else int(number)


def _whole(dataset: Header, keyword: str) -> int:
    value = dataset.get(keyword)
    if value is None:
        raise ValueError(f"{keyword} is missing")
    return int(value)


def _syntax(dataset: Header, is_implicit: bool, is_little: bool) -> uid.UID:
    """Transfer syntax; in a file without a meta header the encoding that was found."""
    meta = getattr(dataset, "file_meta", None)
    named = meta.get("TransferSyntaxUID") if meta is not None else None
    if named:
        syntax = uid.UID(str(named))
        if not syntax.is_transfer_syntax:
            raise NotImplementedError("unknown transfer syntax")
        return syntax
    if not is_little:
        return uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian if is_implicit else uid.ExplicitVRLittleEndian


def _find_pixels(file: OpenDicom, is_implicit: bool, is_little: bool) -> int:
    """Read tag and length of the pixel data element, which comes next; 0 where there is none."""
    order = "<" if is_little else ">"
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != _PIXEL_DATA:
        return 0
    # some files are explicit where their syntax says implicit; as a length these letters would be odd, which none is
    if is_implicit and head[4:6] not in (b"OW", b"OB"):
        return int(struct.unpack(f"{order}L", head[4:])[0])
    tail = file.read(4)
    return int(struct.unpack(f"{order}L", tail)[0]) if len(tail) == 4 else 0
