"""Says whether one damaged input was read right or turned away with its reason.

Right means: every slice that came out is one that a plain, independent reading of the very same files gives (pydicom
and NumPy, nibabel, or the bytes at the end of an uncompressed NRRD or MetaImage file); values are compared exactly
after raising them to -1024. A plain reading may fail where ours succeeds only if the pixels are those of the sound
file. Everything else must be a rejection that names a file and a reason, without any identifier.
"""

import functools
import gzip
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from corpus import MARKERS, SHAPE, Files
from voco2d.errors import ReadError
from voco2d.io.discover import discover
from voco2d.io.readers import read_source
from voco2d.io.volume import Volume

_NO_SOUND_FILE = 100_000
_EXPLAINED = ("windowed:", "padding:", "inverted:", "tilt:")


@dataclass
class Reading:
    """What came of one input."""

    volumes: list[Volume] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


def read(folder: Path) -> Reading:
    """Read everything in `folder` the way `prepare` does; this is what must be quick and small."""
    sources, rejections = discover([folder])
    reading = Reading([], [entry.reason for entry in rejections], {entry.path for entry in rejections})
    for source in sources:
        try:
            volume, strays = read_source(source)
        except ReadError as error:
            reading.reasons.append(error.reason)
            reading.left_out.update(str(path) for path in source.files)
        else:
            reading.volumes.append(volume)
            reading.reasons += [entry.reason for entry in strays]
            reading.left_out.update(entry.path for entry in strays)
    return reading


def judge(reading: Reading, files: Files, sound: Files, log: str) -> tuple[str, str]:
    """Judge what `read` made of `files`, a damaged copy of `sound`.

    Returns:
        "read", "part" (some files left out) or "refused"; and a complaint, empty where all is well.
    """
    volumes, reasons = reading.volumes, reading.reasons
    said = "\n".join([*reasons, log, *(note for volume in volumes for note in volume.notes)])
    if any(marker in said for marker in MARKERS):
        return "leak", "an identifier was told"
    if not volumes and not reasons:
        return "silent", "neither read nor refused"
    if any(not reason.strip() or len(reason) > 400 for reason in reasons):
        return "reason", "a reason is empty or endless"
    complaint = _compare(volumes, files, sound)
    slices = sum(volume.hu.shape[0] for volume in volumes)
    if not complaint and len(files) == SHAPE[0] and slices + len(reading.left_out) < len(files):
        complaint = f"{slices} slices and {len(reading.left_out)} rejections for {len(files)} files"
    return ("refused" if not volumes else "part" if reading.left_out else "read"), complaint


def _compare(volumes: list[Volume], files: Files, sound: Files) -> str:
    damaged = [(name, data) for name, data in files.items() if sound.get(name) != data]
    known = {plane.tobytes() for name, data in damaged for plane in _planes(name, data)}
    known |= {part for name, data in sound.items() for part in _sound_planes(name, data)}
    for volume in volumes:
        if any(note.startswith(_EXPLAINED) for note in volume.notes):
            continue
        for z, plane in enumerate(volume.hu):
            turned = [np.ascontiguousarray(view).tobytes() for view in _views(plane)]
            if not known.intersection(turned):
                return f"slice {z} of {volume.hu.shape} is in no plain reading ({'; '.join(volume.notes)})"
    return ""


def _views(plane: np.ndarray) -> Iterator[np.ndarray]:
    """The slice in all its in-plane orientations: the header may have been changed to another one."""
    for flipped in (plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1]):
        yield flipped
        yield flipped.T


@functools.cache
def _sound_planes(name: str, data: bytes) -> frozenset[bytes]:
    return frozenset(plane.tobytes() for plane in _planes(name, data))


def _planes(name: str, data: bytes) -> Iterator[np.ndarray]:
    """Every slice of a plain reading, in int16 and raised to -1024; of whole arrays along each axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = _plain(name, data)
        except BaseException as error:  # whatever a library thinks of it; a panic of PyO3 is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            return
    if values is None or values.ndim not in (2, 3) or values.size > 10**7:
        return
    values = np.clip(np.nan_to_num(np.rint(values)), -1024, 32767).astype(np.int16)
    if values.ndim == 2:
        yield values
    else:
        yield from (np.ascontiguousarray(plane) for axis in range(3) for plane in np.moveaxis(values, axis, 0))


def _plain(name: str, data: bytes) -> np.ndarray | None:
    if name.endswith(".dcm"):
        if len(data) > _NO_SOUND_FILE and b"1.2.840.10008.1.2.1.99" in data[:600]:
            return None  # a bomb that a plain reading would inflate
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        groups = ds.get("SharedFunctionalGroupsSequence")
        scale = groups[0].PixelValueTransformationSequence[0] if groups else ds
        if "TransferSyntaxUID" not in ds.file_meta:
            ds.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian if ds.original_encoding[0] else "1.2.840.10008.1.2.1"
            )
        if int(ds.Rows) * int(ds.Columns) * int(ds.get("NumberOfFrames", 1) or 1) > 10**7:
            return None
        slope, intercept = (
            (1.0 if scale.get("RescaleSlope") is None else float(scale.RescaleSlope)),
            scale.get("RescaleIntercept"),
        )
        return ds.pixel_array.astype(np.float64) * slope + (0.0 if intercept in (None, "") else float(intercept))
    if ".nii" in name:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(10**7) if name.endswith(".gz") else data
        return np.asarray(nib.Nifti1Image.from_bytes(plain).dataobj, np.float64)
    if name.endswith(".npy"):
        return np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64)
    if name.endswith((".mha", ".nrrd")):
        count = 2 * SHAPE[0] * SHAPE[1] * SHAPE[2]
        start = data.find(b"LOCAL\n") + 6 if name.endswith(".mha") else data.find(b"\n\n") + 2
        return np.frombuffer(data[start : start + count], "<i2").reshape(SHAPE).astype(np.float64)
    return None


def capture_logs() -> io.StringIO:
    """Collect everything that is logged from now on."""
    stream = io.StringIO()
    logging.basicConfig(stream=stream, level=logging.DEBUG, force=True)
    return stream
