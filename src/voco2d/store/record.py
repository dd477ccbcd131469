"""What a store knows about one source: the record of a prepared volume, or the reason why there is none."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from voco2d.io.source import Rejection
from voco2d.store.files import list_files, read_files, remove_file, write_if_changed
from voco2d.store.layout import RECORDS, REFUSED, thumbnail_path, volume_path
from voco2d.store.location import Location

_log = logging.getLogger(__name__)

RECORD_COLUMNS: Mapping[str, str] = {
    "key": "str",
    "patient_id": "str",
    "study_id": "str",
    "series_id": "str",
    "source": "str",
    "file": "str",
    "n_slices": "int64",
    "height": "int64",
    "width": "int64",
    "spacing_z_mm": "float64",
    "spacing_h_mm": "float64",
    "spacing_w_mm": "float64",
    "coverage_mm": "float64",
    "box_z0": "int64",
    "box_z1": "int64",
    "box_h0": "int64",
    "box_h1": "int64",
    "box_w0": "int64",
    "box_w1": "int64",
    "body_fraction": "float64",
    "hu_min": "int64",
    "hu_max": "int64",
    "hu_mean": "float64",
    "notes": "str",
    "instance_numbers": "str",
    "source_hash": "str",
    "settings_hash": "str",
}
"""Columns of the index that come from the volume itself, and their types."""

LATER: Mapping[str, str] = {"instance_numbers": ""}
"""Columns that stores of earlier versions lack, and what stands there for a volume that was prepared before."""

JOINED: Mapping[str, str] = {"aortic_hu": "float64", "incomplete_organ": "Int64"}
"""Columns of the index that come from the competition's table of series; missing for other scans."""

COLUMNS: Mapping[str, str] = {**RECORD_COLUMNS, **JOINED}
"""Columns of the index and their types; one row a volume."""


@dataclass(frozen=True)
class Record:
    """A prepared volume.

    Args:
        identity: `source_identity` of its source.
        row: Its row of the index, with the keys of RECORD_COLUMNS.
        size_bytes: Size of its .npy file.
        rejections: Single bad files of the otherwise good series, as (path, reason).
        quality: Its row of the quality table; empty where it could not be measured.
    """

    identity: str
    row: dict[str, Any]
    size_bytes: int
    rejections: tuple[tuple[str, str], ...] = ()
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the volume."""
        return str(self.row["key"])

    @property
    def left_out(self) -> tuple[Rejection, ...]:
        """The rejections as such."""
        return tuple(Rejection(path, reason) for path, reason in self.rejections)

    @property
    def source(self) -> Path:
        """Where it came from."""
        return Path(self.row["source"])

    @property
    def ids(self) -> tuple[str, str, str]:
        """Patient, study and series."""
        return self.row["patient_id"], self.row["study_id"], self.row["series_id"]

    def is_same_series(self, other: "Record") -> bool:
        """Whether both are surely one series, wherever it lies: study and series UID agree, or ids and files do."""
        return self.ids == other.ids and (self.ids[1] != "" or self.row["source_hash"] == other.row["source_hash"])

    def save(self, root: Location) -> None:
        """Write it below `root`; only now does the volume count as prepared."""
        write_if_changed(root / RECORDS / f"{self.key}.json", _json(self))

    def remove(self, root: Location) -> None:
        """Take the volume out of the store, its record first."""
        remove_file(root / RECORDS / f"{self.key}.json")
        remove_file(volume_path(root, self.key))
        remove_file(thumbnail_path(root, self.key))


@dataclass(frozen=True)
class Refusal:
    """A source that was read and is no CT volume.

    Args:
        identity: `source_identity`.
        path: The source.
        reason: Why it was refused.
        fingerprint: `source_fingerprint` at that time.
        version: Version of voco2d that refused it; another one may read it.
    """

    identity: str
    path: str
    reason: str
    fingerprint: str
    version: str

    @property
    def rejection(self) -> Rejection:
        """Its line of the quarantine."""
        return Rejection(self.path, self.reason)

    def save(self, root: Location) -> None:
        """Remember it below `root`, so that it is not read again while it stays the same."""
        write_if_changed(root / REFUSED / f"{self.identity}.json", _json(self))

    def remove(self, root: Location) -> None:
        """Forget it."""
        remove_file(root / REFUSED / f"{self.identity}.json")


def load_records(root: Location) -> dict[str, Record]:
    """Read all records of the store at `root`, by identity, in the order of their keys."""
    records = {}
    fields = set(Record.__dataclass_fields__)
    for tree in read_trees(root / RECORDS):
        if fields == set(tree) and set(tree["row"]) | set(LATER) == set(RECORD_COLUMNS):
            tree["row"] = {**LATER, **tree["row"]}
            tree["rejections"] = tuple((path, reason) for path, reason in tree["rejections"])
            records[tree["identity"]] = Record(**tree)
    return records


def load_refusals(root: Location) -> dict[str, Refusal]:
    """Read all refusals of the store at `root`, by identity."""
    fields = set(Refusal.__dataclass_fields__)
    return {tree["identity"]: Refusal(**tree) for tree in read_trees(root / REFUSED) if set(tree) == fields}


def read_trees(folder: Location) -> Iterator[dict[str, Any]]:
    """Read JSON files in the order of their names; a damaged one counts as absent, so its source is read again."""
    for path, content in read_files([folder / name for name in list_files(folder, ".json")]):
        try:
            tree = json.loads(content or b"")
        except ValueError:
            _log.warning("%s: damaged, its source will be prepared again", path)
            continue
        if isinstance(tree, dict):
            yield tree


def _json(entry: Record | Refusal) -> bytes:
    return (json.dumps(asdict(entry), indent=1, sort_keys=True) + "\n").encode()
