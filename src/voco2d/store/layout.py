"""What lies where in a store, how a volume is named, and how a source is recognised without being opened.

- `store.json`: format version, settings, hash of the settings
- `volumes/<key>.npy`: a prepared volume, int16 (Z, H, W)
- `thumbnails/<key>.jpg`: three planes of it
- `records/<key>.json`: a volume's index row, quality row, source hash and left-out files; written after the others
- `refused/<identity>.json`: a source that is no CT volume, its reason and source hash
- `left_out/<id>.json`: what the latest run over the same places left out besides
- `rsna/<id>-train.csv`, `rsna/<id>-train_series_meta.csv`: tables of the competition folders that were prepared
- `index.parquet`: the records as one table
- `quarantine.csv`: path and reason of everything that was left out
- `labels.csv`: the competition's labels, where there are any
- `quality.parquet`, `quality.html`: what is odd about which volume, as a table and as a page
"""

import os
from hashlib import blake2b
from pathlib import Path

from voco2d.io.numpy_array import sidecar_path
from voco2d.io.source import Source
from voco2d.store.files import make_folder
from voco2d.store.location import Location, absolute

SETTINGS = "store.json"
INDEX = "index.parquet"
QUARANTINE = "quarantine.csv"
LABELS = "labels.csv"
QUALITY = "quality.parquet"
QUALITY_PAGE = "quality.html"
VOLUMES = "volumes"
THUMBNAILS = "thumbnails"
RECORDS = "records"
REFUSED = "refused"
LEFT_OUT = "left_out"
RSNA = "rsna"


def volume_key(patient_id: str, series_id: str, identity: str) -> str:
    """Name a volume by a hash that keeps any two series apart and shows no identifier, since messages name files.

    Args:
        patient_id: May hold anything, also path separators.
        series_id: The same.
        identity: `source_identity` of where it came from.

    Returns:
        "s-" and 16 hexadecimal digits.
    """
    return f"s-{digest(patient_id, series_id, identity, size=8)}"


def volume_path(root: Location, key: str) -> Location:
    """Path of the prepared volume `key`."""
    return root / VOLUMES / f"{key}.npy"


def thumbnail_path(root: Location, key: str) -> Location:
    """Path of the picture of the prepared volume `key`."""
    return root / THUMBNAILS / f"{key}.jpg"


def source_identity(source: Source) -> str:
    """Hash of where a source is: its absolute path, series, and which part of it. A moved source is another one."""
    part = (str(number) for number in (*source.part, source.stack))
    return digest(str(absolute(source.path)), source.series_id or "", *part)


def source_fingerprint(source: Source, masks: Path | None = None) -> str:
    """Hash of what a source is, without opening it: relative name, size and modification time of each file.

    Args:
        source: What is to be read.
        masks: Folder of organ masks; those that are named after the source count too.

    Raises:
        OSError: A file can't be looked at.
    """
    parts = [_state(path, source.path) for path in (*source.files, *_companions(source))]
    if masks is not None:
        parts += [_state(path, masks) for path in _masks(source, masks)]
    return digest(source.kind, *sorted(parts))


def make_folders(root: Location) -> None:
    """Create the store's folders and remove what killed runs left half written."""
    make_folder(root)
    for name in (VOLUMES, THUMBNAILS, RECORDS, REFUSED, LEFT_OUT, RSNA):
        make_folder(root / name)


def digest(*parts: str, size: int = 16) -> str:
    """Hash texts, keeping apart where one ends and the next begins; `size` bytes as hexadecimal digits."""
    lengths = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(lengths.encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


def _state(path: Path, base: Path) -> str:
    status = path.stat()
    return f"{os.path.relpath(path, base)}\0{status.st_size}\0{status.st_mtime_ns}"


def _companions(source: Source) -> list[Path]:
    """Files that say how those of `source` are to be read."""
    sidecars = [sidecar_path(path) for path in source.files] if source.kind == "numpy" else []
    return [path for path in sidecars if path.exists()]


def _masks(source: Source, masks: Path) -> list[Path]:
    """Masks that are named after a source; one named after a series UID inside its files is not known before."""
    stem = source.path.name.removesuffix(".gz").removesuffix(".nii")
    found: list[Path] = []
    for folder in (masks, masks / "segmentations"):
        for name in {stem, source.path.stem, source.series_id or stem} - {"", ".", ".."}:
            if Path(name).name != name or "\0" in name:
                continue
            found += sorted((folder / name).glob("*.nii*")) if (folder / name).is_dir() else []
            endings = ("_labels.nii.gz", "_labels.nii", ".nii.gz", ".nii")
            found += [file for ending in endings if (file := folder / f"{name}{ending}").is_file()]
    return found
