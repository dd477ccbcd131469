"""What a store knows about one source: the record of a prepared volume, or the reason why there is none."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voco2d.io.source import Rejection
from voco2d.store.layout import RECORDS, REFUSED, VOLUMES, write_if_changed

_log = logging.getLogger(__name__)

COLUMNS: Mapping[str, str] = {
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
    "source_hash": "str",
    "settings_hash": "str",
}
"""Columns of the index and their types; one row a volume."""


@dataclass(frozen=True)
class Record:
    """A prepared volume.

    Args:
        identity: `source_identity` of its source.
        row: Its row of the index, with the keys of COLUMNS.
        size_bytes: Size of its .npy file.
        rejections: Single bad files of the otherwise good series, as (path, reason).
    """

    identity: str
    row: dict[str, Any]
    size_bytes: int
    rejections: tuple[tuple[str, str], ...] = ()

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

    def is_current(self, root: Path, fingerprint: str) -> bool:
        """Whether the source is the one it was made from, and its file is there in full."""
        try:
            size = volume_path(root, self.key).stat().st_size
        except OSError:
            return False
        return size == self.size_bytes and self.row["source_hash"] == fingerprint

    def save(self, root: Path) -> None:
        """Write it below `root`; only now does the volume count as prepared."""
        write_if_changed(root / RECORDS / f"{self.key}.json", _json(self))

    def remove(self, root: Path) -> None:
        """Take the volume out of the store, its record first."""
        (root / RECORDS / f"{self.key}.json").unlink(missing_ok=True)
        volume_path(root, self.key).unlink(missing_ok=True)


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

    def save(self, root: Path) -> None:
        """Remember it below `root`, so that it is not read again while it stays the same."""
        write_if_changed(root / REFUSED / f"{self.identity}.json", _json(self))

    def remove(self, root: Path) -> None:
        """Forget it."""
        (root / REFUSED / f"{self.identity}.json").unlink(missing_ok=True)


def volume_path(root: Path, key: str) -> Path:
    """Path of the prepared volume `key`."""
    return root / VOLUMES / f"{key}.npy"


def load_records(root: Path) -> dict[str, Record]:
    """Read all records of the store at `root`, by identity, in the order of their keys."""
    records = {}
    for tree in _read_all(root / RECORDS):
        if {"identity", "row", "size_bytes", "rejections"} == set(tree) and set(tree["row"]) == set(COLUMNS):
            tree["rejections"] = tuple((path, reason) for path, reason in tree["rejections"])
            records[tree["identity"]] = Record(**tree)
    return records


def load_refusals(root: Path) -> dict[str, Refusal]:
    """Read all refusals of the store at `root`, by identity."""
    fields = set(Refusal.__dataclass_fields__)
    return {tree["identity"]: Refusal(**tree) for tree in _read_all(root / REFUSED) if set(tree) == fields}


def _json(entry: Record | Refusal) -> bytes:
    return (json.dumps(asdict(entry), indent=1, sort_keys=True) + "\n").encode()


def _read_all(folder: Path) -> Iterator[dict[str, Any]]:
    """Read JSON files in the order of their names; a damaged one counts as absent, so its source is read again."""
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            tree = json.loads(path.read_bytes())
        except (OSError, ValueError):
            _log.warning("%s: damaged, its source will be prepared again", path)
            continue
        if isinstance(tree, dict):
            yield tree
