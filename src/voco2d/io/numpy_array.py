"""Reads one NumPy array (.npy) into a `Volume`, as the JSON file beside it says.

An array alone tells neither its axes nor its units, so `scan.npy` needs a `scan.json` beside it:

    {"axes": "IPL", "spacing_mm": [2.5, 0.8, 0.8], "intensity": "hu"}

- `axes`: the direction in which each array axis increases, one letter an axis, of R or L, A or P, S or I.
- `spacing_mm`: distance of voxel centres along each array axis, in array order, millimetres.
- `intensity`: "hu" for Hounsfield units, "windowed" for a window of them stored as 0…255 (integers) or 0…1 (floats).
- `window_hu`: [low, high] of that window; with "windowed" only.
- `patient_id`, `study_id`, `series_id`: optional; without them the file's stem names patient and series.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from voco2d.errors import ReadError
from voco2d.io.array_volume import FileIds, array_volume
from voco2d.io.hounsfield import from_window, guess_hounsfield, refuse_unreal
from voco2d.io.orientation import axes_affine, is_axis_code
from voco2d.io.small_text import read_small_text
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import MAX_VOXELS, Volume
from voco2d.types import HuVolume, Millimetres3

_REQUIRED = ("axes", "spacing_mm", "intensity")
_IDS = ("patient_id", "study_id", "series_id")
_LARGEST_NUMBER = 1e6
_LEAST_SPACING_MM = 1e-6
_KNOWN = (*_REQUIRED, "window_hu", *_IDS)


@dataclass(frozen=True)
class Sidecar:
    """What the JSON file beside an array says; see the module's text.

    Args:
        axes: Axis code of the array.
        spacing_mm: Along the array's axes.
        intensity: What the values are.
        window_hu: Low and high of the window, HU; `None` for "hu".
        ids: patient_id, study_id, series_id, as far as given.
    """

    axes: str
    spacing_mm: Millimetres3
    intensity: Literal["hu", "windowed"]
    window_hu: tuple[float, float] | None
    ids: Mapping[str, str]


def sidecar_path(path: Path) -> Path:
    """JSON file that belongs to the array at `path`."""
    return path.with_suffix(".json")


def is_sidecar(path: Path) -> bool:
    """Say whether `path` is the JSON file of an array beside it."""
    if path.suffix.lower() != ".json":
        return False
    return os.path.isfile(path.with_suffix(".npy"))  # noqa: PTH113, Path.is_file() fails on some links


def read_numpy(source: Source, args: ReadArgs) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read the single array of `source` with its sidecar.

    Returns:
        The volume, and no rejections.

    Raises:
        ReadError: When the sidecar is missing or incomplete, or the array is damaged or not what it says.
    """
    path = source.files[0]
    sidecar = read_sidecar(path)
    array = _load(path)
    ids = sidecar.ids
    volume = array_volume(
        array,
        axes_affine(sidecar.axes, sidecar.spacing_mm),
        source,
        args,
        to_hounsfield=lambda turned: _hounsfield(turned, sidecar, path),
        ids=FileIds(ids.get("patient_id", path.stem), ids.get("study_id", ""), ids.get("series_id", path.stem)),
    )
    return volume, ()


def read_sidecar(path: Path) -> Sidecar:
    """Read and check the sidecar of the array at `path`.

    Raises:
        ReadError: Naming the sidecar, the key and what it should be.
    """
    beside = sidecar_path(path)
    if not os.path.isfile(beside):  # noqa: PTH113, as above
        raise ReadError(
            path, f"no {beside.name} beside it; write one with {', '.join(_REQUIRED)} (docs of numpy_array)"
        )
    try:
        said: Any = json.loads(read_small_text(beside))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(beside, "can't be read as JSON") from error
    if not isinstance(said, dict):
        raise ReadError(beside, f"holds no JSON object with {', '.join(_REQUIRED)}")
    missing = [key for key in _REQUIRED if key not in said]
    unknown = sorted(set(said) - set(_KNOWN))
    if missing or unknown:
        wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {len(unknown)} unknown"] * bool(unknown)
        raise ReadError(beside, f"{' and '.join(wrong)}; the keys are {', '.join(_KNOWN)}")
    if not (isinstance(said["axes"], str) and is_axis_code(said["axes"])):
        raise ReadError(beside, "axes must have one letter an axis, of R or L, A or P, S or I, for example IPL")
    spacing = _numbers(said, "spacing_mm", 3, beside)
    if min(spacing) < _LEAST_SPACING_MM:
        raise ReadError(beside, f"spacing_mm must be positive, at least {_LEAST_SPACING_MM:g}")
    return Sidecar(
        axes=said["axes"],
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        intensity=_intensity(said, beside),
        window_hu=_window(said, beside),
        # JSON may escape half a character, which no table can hold
        ids={key: str(said[key]).encode("utf-8", "replace").decode() for key in _IDS if said.get(key)},
    )


def _intensity(said: Mapping[str, Any], beside: Path) -> Literal["hu", "windowed"]:
    if said["intensity"] == "hu":
        return "hu"
    if said["intensity"] == "windowed":
        return "windowed"
    raise ReadError(beside, 'intensity must be "hu" or "windowed"')


def _window(said: Mapping[str, Any], beside: Path) -> tuple[float, float] | None:
    if said["intensity"] == "hu":
        return None
    if "window_hu" not in said:
        raise ReadError(beside, "intensity is windowed, so window_hu must give [low, high] in HU")
    low, high = _numbers(said, "window_hu", 2, beside)
    if low >= high:
        raise ReadError(beside, "window_hu must be [low, high] with low below high")
    return low, high


def _numbers(said: Mapping[str, Any], key: str, count: int, beside: Path) -> list[float]:
    values = said[key]
    # compared, not converted: a whole number of hundreds of digits is no float
    numeric = isinstance(values, list) and all(
        type(value) in (int, float) and abs(value) <= _LARGEST_NUMBER for value in values
    )
    if not numeric or len(values) != count:
        raise ReadError(beside, f"{key} must be a list of {count} numbers")
    return [float(value) for value in values]


def _load(path: Path) -> Shaped[np.ndarray, "a b c"]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # np.load would also open archives and pickles
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, RecursionError, TokenError, OverflowError) as error:
        raise ReadError(path, "not a plain NumPy array, or damaged") from error
    if array.ndim != 3 or array.size == 0:
        raise ReadError(path, f"array of shape {array.shape}, not one volume of three axes")
    if array.size > MAX_VOXELS:
        raise ReadError(path, f"{array.size} voxels, {MAX_VOXELS} are the limit")
    return np.asarray(array)


def _hounsfield(array: Shaped[np.ndarray, "Z H W"], sidecar: Sidecar, path: Path) -> tuple[HuVolume, tuple[str, ...]]:
    if sidecar.window_hu is None:
        return guess_hounsfield(array, path, windowed_hu=None)
    refuse_unreal(array, path)
    top = 1.0 if array.dtype.kind == "f" else 255.0
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > top or low == high:
        raise ReadError(path, f"values from {low:g} to {high:g} are no window stored as 0 to {top:g}")
    note = "windowed: to {:g} to {:g} HU".format(*sidecar.window_hu)
    return from_window(array, top, sidecar.window_hu), (note,)
