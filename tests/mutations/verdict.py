"""Says whether one damaged input was read right or turned away with its reason.

Right means, against a plain reading of the very same files with other code (`plain`):

- a DICOM volume holds slices of those files alone, upright unless the damaged header turns them, and in the order of
  their heights from superior to inferior;
- any other volume is the whole stored array, in the body's axes where its geometry is as it was, else in some axes;
- values are the same after raising them to -1024; where the reader says so, padding may have become air, and tilted,
  negative or windowed ones have other values.

A plain reading may fail where ours succeeds only if the pixels are those of the sound file. Everything else must be a
rejection that names a file and a reason, without any identifier.
"""

import io
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from corpus import Entry, Files, Link
from corpus_arrays import LISTS
from plain import PlainArray, PlainSlice, plain_array, plain_slices, sound_slices
from voco2d.errors import ReadError, UsageError
from voco2d.io.discover import discover
from voco2d.io.readers import read_source
from voco2d.io.volume import Volume

_OTHER_VALUES = ("windowed:", "inverted:", "tilt:")
_ARRAYS = (".nii", ".nii.gz", ".npy", ".mha", ".nrrd")
_AIR = -1024
_LONGEST_REASON = 400


@dataclass
class Reading:
    """What came of one input."""

    volumes: list[Volume] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


def read(folder: Path) -> Reading:
    """Read everything in `folder`, or what a list in it names, as `prepare` does; this must be quick and small."""
    given = [folder / name for name in LISTS if (folder / name).exists()] or [folder]
    try:
        sources, rejections = discover(given)
    except UsageError as error:
        return Reading(reasons=[str(error).replace(str(folder), "")], left_out={str(folder)})
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


def judge(reading: Reading, files: Files, sound: Files, log: str, markers: tuple[str, ...]) -> tuple[str, str]:
    """Judge what `read` made of `files`, a damaged copy of `sound`.

    Returns:
        "read", "part" (some files left out) or "refused"; and a complaint, empty where all is well.
    """
    volumes, reasons = reading.volumes, reading.reasons
    said = "\n".join([*reasons, log, *(note for volume in volumes for note in volume.notes)])
    if any(marker in said for marker in markers):
        return "leak", "an identifier was told"
    if not volumes and not reasons and not all(_is_folder(entry) for entry in files.values()):
        return "silent", "neither read nor refused"
    if any(not reason.strip() or len(reason) > _LONGEST_REASON for reason in reasons):
        return "reason", "a reason is empty or endless"
    complaint = next((told for volume in volumes if (told := _compare(volume, files, sound))), "")
    slices = sum(volume.hu.shape[0] for volume in volumes)
    parts = sum(name.endswith(".dcm") and not _is_folder(entry) for name, entry in files.items())
    if not complaint and parts > 1 and slices + len(reading.left_out) < parts:
        complaint = f"{slices} slices and {len(reading.left_out)} rejections for {parts} files"
    return ("refused" if not volumes else "part" if reading.left_out else "read"), complaint


def compare_sound(reading: Reading, hu: np.ndarray, tolerance: int) -> str:
    """Say what is wrong with the reading of a sound case; empty where all its volumes are `hu`."""
    if reading.reasons or not reading.volumes:
        return f"sound, but: {'; '.join(reading.reasons)}"
    for volume in reading.volumes:
        if volume.hu.shape != hu.shape or np.abs(volume.hu.astype(int) - hu).max() > tolerance:
            return "sound, but read with other values or in another order"
    return ""


def capture_logs() -> io.StringIO:
    """Collect everything that is logged from now on."""
    stream = io.StringIO()
    logging.basicConfig(stream=stream, level=logging.DEBUG, force=True)
    return stream


def _is_folder(entry: Entry) -> bool:
    return isinstance(entry, Link) and entry.is_folder


def _compare(volume: Volume, files: Files, sound: Files) -> str:
    if any(note.startswith(_OTHER_VALUES) for note in volume.notes):
        return ""
    name = Path(volume.source).name
    of_array = next((key for key in (*files, *sound) if Path(key).name == name and name.endswith(_ARRAYS)), None)
    return _compare_slices(volume, files, sound) if of_array is None else _compare_array(volume, of_array, files, sound)


def _compare_slices(volume: Volume, files: Files, sound: Files) -> str:
    usual = {part.orientation for data in sound.values() if isinstance(data, bytes) for part in sound_slices(data)}
    own = [part for name, data in files.items() if sound.get(name) != data for part in plain_slices(data)]
    known: dict[bytes, list[PlainSlice]] = {}
    for part in own:
        known.setdefault(part.hu.tobytes(), []).append(part)
    for name, data in sound.items():
        # of a file that can't be read the plain way ours may have saved the pixels
        for part in sound_slices(data) if isinstance(data, bytes) and name.endswith(".dcm") else ():
            if files.get(name) == data or not own:
                known.setdefault(part.hu.tobytes(), []).append(part)
    may_be_air = any(note.startswith("padding:") for note in volume.notes)
    is_turned = any(part.orientation not in usual for part in own)
    below = np.inf
    for z, plane in enumerate(volume.hu):
        found = known.get(np.ascontiguousarray(plane).tobytes(), [])
        if not found and may_be_air:
            found = [part for parts in known.values() for part in parts if _is_same_but_air(plane, part.hu)]
        if not found and is_turned and any(view.tobytes() in known for view in _views(plane)):
            continue
        if not found:
            return f"slice {z} of {volume.hu.shape} is in no plain reading ({'; '.join(volume.notes)})"
        if any(np.isnan(part.height_mm) or part.orientation not in usual for part in found):
            continue
        heights = [part.height_mm for part in found if part.height_mm < below]
        if not heights:
            return f"slice {z} of {volume.hu.shape} is out of order"
        below = max(heights)
    return ""


def _compare_array(volume: Volume, name: str, files: Files, sound: Files) -> str:
    data = files.get(name)
    plain = plain_array(name, data if isinstance(data, bytes) else sound.get(name, b""))
    before = plain_array(name, sound.get(name, data if data is not None else b""))
    if plain is None:
        plain = before
    assert before is not None
    if plain is None:
        return "read, but by no plain reading"
    sidecar = str(Path(name).with_suffix(".json"))
    as_before = plain.geometry == before.geometry and files.get(sidecar) == sound.get(sidecar)
    if as_before:
        return "" if np.array_equal(volume.hu, plain.turned) else "its values or axes are not those of the file"
    if any(np.array_equal(volume.hu, view) for view in _turns(plain)):
        return ""
    if name.endswith((".mha", ".nrrd")):  # the plain reading takes no size from the header
        planes = {plane.tobytes() for axis in range(3) for plane in np.moveaxis(plain.stored, axis, 0)}
        if all(any(view.tobytes() in planes for view in _views(plane)) for plane in volume.hu):
            return ""
    return f"the volume of {volume.hu.shape} is the stored array in no axes"


def _turns(plain: PlainArray) -> Iterator[np.ndarray]:
    """The array in all 48 orientations."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((slice(None), slice(None, None, -1)), repeat=3):
            yield plain.stored.transpose(order)[flips]


def _views(plane: np.ndarray) -> Iterator[np.ndarray]:
    """The slice in all its in-plane orientations."""
    for flipped in (plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1]):
        yield np.ascontiguousarray(flipped)
        yield np.ascontiguousarray(flipped.T)


def _is_same_but_air(plane: np.ndarray, other: np.ndarray) -> bool:
    return plane.shape == other.shape and bool(np.all((plane == other) | (plane == _AIR)))
