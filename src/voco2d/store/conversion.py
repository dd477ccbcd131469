"""The work of one worker: read a source, prepare it, write volume and record. Imports neither torch nor pandas."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from voco2d.errors import Voco2dError
from voco2d.io.readers import read_source
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.preprocessing.preprocess import Prepared, PreprocessArgs, prepare_volume
from voco2d.store.files import ByteSink, write_atomically
from voco2d.store.instance_numbers import encode_numbers
from voco2d.store.layout import VOLUMES, volume_key, volume_path
from voco2d.store.location import Location
from voco2d.store.record import Record, Refusal
from voco2d.store.survey import survey
from voco2d.types import HuVolume
from voco2d.version import VERSION

_log = logging.getLogger(__name__)
_TOO_LARGE = "too large for the memory that was left; prepare it again with fewer workers"


@dataclass(frozen=True)
class Job:
    """One source to prepare.

    Args:
        source: What to read.
        identity: Its `source_identity`.
        fingerprint: Its `source_fingerprint`.
        root: Folder of the store.
        read: How to read.
        preprocess: How to prepare.
        settings_hash: Hash of both.
        old: What the store holds of an earlier state of the source; it goes as soon as the new state is read.
        masks: Folder of organ masks.
    """

    source: Source
    identity: str
    fingerprint: str
    root: Location
    read: ReadArgs
    preprocess: PreprocessArgs
    settings_hash: str
    old: Record | None = None
    masks: Path | None = None


Outcome: TypeAlias = Record | Refusal | Rejection
"""Prepared; refused for good; or failed in a way that is tried again by the next run."""


def convert(job: Job) -> Outcome:
    """Do one job.

    Raises:
        OSError: The volume or its record can't be written; what can't be read is an outcome instead.
    """
    path = str(job.source.path)
    try:
        volume, rejections = read_source(job.source, job.read)
        prepared = prepare_volume(volume, job.preprocess, masks=job.masks)
    except Voco2dError as error:
        _log.debug("%s: left out\n%s", path, wordless(error))
        if _may_pass(error):
            return Rejection(path, _reason(error))
        return Refusal(job.identity, path, _reason(error), job.fingerprint, VERSION)
    except MemoryError:
        return Rejection(path, _TOO_LARGE)
    except Exception as error:
        # One odd file among a million must not end a run of hours. The message may hold patient data: tell the type.
        _log.debug("%s: left out\n%s", path, wordless(error))
        return Rejection(path, "can't be read, in a way that was not foreseen; --verbose tells where it failed")
    key = volume_key(volume.patient_id, volume.series_id, job.identity)
    if job.old is not None and job.old.key != key:
        job.old.remove(job.root)
    written = write_atomically(volume_path(job.root, key), lambda file: _write_npy(file, prepared.hu))
    quality, flaws = survey(job.root, key, volume, prepared)
    record = Record(
        identity=job.identity,
        row=_row(job, key, volume, prepared, flaws),
        size_bytes=written,
        rejections=tuple((entry.path, entry.reason) for entry in rejections),
        quality=quality,
    )
    record.save(job.root)
    return record


def _write_npy(file: ByteSink, hu: HuVolume) -> None:
    """Write as `numpy.save` does, but through `file`: NumPy's own writing loses the reason when the disk is full."""
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(hu))
    file.write(hu.data)


def _row(job: Job, key: str, volume: Volume, prepared: Prepared, flaws: tuple[str, ...]) -> dict[str, Any]:
    depth, height, width = volume.hu.shape
    box = dict(zip(("box_z0", "box_z1", "box_h0", "box_h1", "box_w0", "box_w1"), prepared.box, strict=True))
    spacing = dict(zip(("spacing_z_mm", "spacing_h_mm", "spacing_w_mm"), map(float, volume.spacing_mm), strict=True))
    return {
        "key": key,
        "patient_id": volume.patient_id,
        "study_id": volume.study_id,
        "series_id": volume.series_id,
        "source": volume.source,
        "file": f"{VOLUMES}/{key}.npy",
        "n_slices": depth,
        "height": height,
        "width": width,
        **spacing,
        "coverage_mm": float(volume.coverage_mm[0]),
        **{name: int(edge) for name, edge in box.items()},
        "body_fraction": prepared.body_fraction,
        "hu_min": int(prepared.hu.min()),
        "hu_max": int(prepared.hu.max()),
        "hu_mean": float(prepared.hu.mean(dtype=np.float64)),
        "notes": "; ".join((*volume.notes, *prepared.notes, *flaws)),
        "instance_numbers": encode_numbers(volume.instance_numbers),
        "source_hash": job.fingerprint,
        "settings_hash": job.settings_hash,
    }


def _may_pass(error: BaseException) -> bool:
    """Whether the machine rather than the file was at fault: memory, a lost disk, missing rights."""
    cause = error.__cause__
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)


def _reason(error: Voco2dError) -> str:
    if isinstance(error.__cause__, MemoryError):
        return _TOO_LARGE
    reason = str(getattr(error, "reason", error))
    told = getattr(error.__cause__, "strerror", None)
    return f"{reason}: {told}" if told and told not in reason else reason
