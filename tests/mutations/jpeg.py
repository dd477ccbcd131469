"""Encodes JPEG lossless (process 14 of ISO/IEC 10918-1, annex H) and JPEG baseline, which none of the encoders at hand
write as DICOM wants them."""

import io
import struct

import numpy as np
from PIL import Image

_CATEGORIES = 17
_CODE_BITS = 5


def lossless(plane: np.ndarray, bits: int, predictor: int = 1) -> bytes:
    """Encode a (H, W) plane of unsigned values; the Huffman table gives each difference category a code of 5 bits.

    Args:
        plane: Values below 2**bits.
        bits: Precision.
        predictor: 1 (the left neighbour, selection value 1) or 4 (left + above - above left), table H.1.
    """
    height, width = plane.shape
    table = bytes(_CATEGORIES if length == _CODE_BITS else 0 for length in range(1, 17)) + bytes(range(_CATEGORIES))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xC3, struct.pack(">BHHB", bits, height, width, 1) + b"\1\x11\0"),
            _segment(0xC4, b"\0" + table),
            _segment(0xDA, b"\1\1\0" + bytes([predictor, 0, 0])),
            _entropy_coded(_differences(plane.astype(np.int64), bits, predictor)),
            b"\xff\xd9",
        )
    )


def baseline(plane: np.ndarray) -> bytes:
    """Encode a (H, W) plane of 8 bits with losses."""
    buffer = io.BytesIO()
    Image.fromarray(plane.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _differences(plane: np.ndarray, bits: int, predictor: int) -> np.ndarray:
    predicted = np.empty_like(plane)
    predicted[0, 0] = 2 ** (bits - 1)
    predicted[0, 1:] = plane[0, :-1]
    predicted[1:, 0] = plane[:-1, 0]
    predicted[1:, 1:] = plane[1:, :-1]
    if predictor == 4:
        predicted[1:, 1:] += plane[:-1, 1:] - plane[:-1, :-1]
    return (plane - predicted).ravel()


def _entropy_coded(differences: np.ndarray) -> bytes:
    """Category code, then the difference's own bits, negative ones less one (H.1.2.2); 0xFF is followed by 0."""
    words = []
    for difference in differences.tolist():
        category = abs(difference).bit_length()
        words.append(f"{category:0{_CODE_BITS}b}")
        if category:
            own = difference if difference > 0 else difference + 2**category - 1
            words.append(f"{own:0{category}b}")
    text = "".join(words)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
