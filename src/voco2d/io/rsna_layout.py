"""Recognises the folder layout of the RSNA 2023 competition and reads its table of series."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from voco2d.errors import LabelError

IMAGE_FOLDERS = ("train_images", "test_images")
LABELS_NAME = "train.csv"
SERIES_META_NAME = "train_series_meta.csv"
IMAGE_LEVEL_LABELS_NAME = "image_level_labels.csv"
SEGMENTATIONS_NAME = "segmentations"
META_COLUMNS = ("patient_id", "series_id", "aortic_hu", "incomplete_organ")
"""Columns of the table of series, and of what `read_series_meta` returns."""


@dataclass(frozen=True)
class RsnaRoot:
    """A folder in the competition's layout; what it lacks is None.

    Args:
        path: The root.
        image_folders: `train_images` and `test_images`, as far as they are there; never empty.
        labels: `train.csv`.
        series_meta: `train_series_meta.csv`.
        image_level_labels: `image_level_labels.csv`.
        segmentations: The folder of organ masks.
    """

    path: Path
    image_folders: tuple[Path, ...]
    labels: Path | None = None
    series_meta: Path | None = None
    image_level_labels: Path | None = None
    segmentations: Path | None = None


def find_rsna_root(path: Path) -> RsnaRoot | None:
    """Recognise a competition folder, given as its root or as one of its image folders.

    A root has an image folder with `<patient>/<series>/` below; its tables may be missing. Only as many folders are
    listed as it takes to see that.

    Args:
        path: A folder. Its own image folder alone is taken where it is one itself, the other is left out.

    Returns:
        None where the layout is another one.
    """
    if not path.is_dir():
        return None
    absolute = Path(os.path.abspath(path))  # noqa: PTH100, resolve() would follow links and lose the layout
    is_image_folder = absolute.name in IMAGE_FOLDERS and _holds_series(path)
    root = absolute.parent if is_image_folder else path
    candidates = [path] if is_image_folder else [path / name for name in IMAGE_FOLDERS]
    folders = tuple(folder for folder in candidates if _holds_series(folder))
    if not folders:
        return None
    return RsnaRoot(
        root,
        folders,
        _file(root / LABELS_NAME),
        _file(root / SERIES_META_NAME),
        _file(root / IMAGE_LEVEL_LABELS_NAME),
        root / SEGMENTATIONS_NAME if (root / SEGMENTATIONS_NAME).is_dir() else None,
    )


def rsna_ids(path: Path) -> tuple[str, str] | None:
    """Patient and series of a file `train_images/<patient>/<series>/<n>.dcm`, wherever in it the user started."""
    if path.suffix.lower() != ".dcm":
        return None
    parts = Path(os.path.abspath(path)).parts  # noqa: PTH100, resolve() would follow links and lose the layout
    return (parts[-3], parts[-2]) if len(parts) > 3 and parts[-4] in IMAGE_FOLDERS else None


def read_series_meta(root: RsnaRoot) -> pd.DataFrame:
    """Read the table of series of a root; a root without one gives a table without rows.

    Returns:
        As `read_series_table`.

    Raises:
        LabelError: As `read_series_table`.
    """
    if root.series_meta is None:
        return _typed(pd.DataFrame(columns=list(META_COLUMNS), dtype=str))
    return read_series_table(root.series_meta)


def read_series_table(path: Path) -> pd.DataFrame:
    """Read and check a table of series in the layout of `train_series_meta.csv`.

    `aortic_hu` is kept as it is, -1024 too, which one real series has where nothing was measured.

    Args:
        path: CSV with the columns of `META_COLUMNS`; further columns are left out.

    Returns:
        One row a series in the file's order: `patient_id` and `series_id` as text, `aortic_hu` in HU (float64, NaN
        where there is none), `incomplete_organ` 0, 1 or missing (Int64).

    Raises:
        LabelError: It can't be read, lacks a column, an id is empty, a series comes twice, `aortic_hu` is no number
            or `incomplete_organ` neither 0 nor 1. Rows are counted from 1 below the header.
    """
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise LabelError(f"{path}: not a CSV table; give one with the columns {', '.join(META_COLUMNS)}") from error
    missing = [column for column in META_COLUMNS if column not in table]
    if missing:
        raise LabelError(f"{path}: lacks the column(s) {', '.join(missing)}; the competition's table has them all")
    table = table[list(META_COLUMNS)]
    table = table.assign(**{name: table[name].fillna("").str.strip() for name in ("patient_id", "series_id")})
    for name in ("patient_id", "series_id"):
        _refuse(table[name] == "", path, f"an empty {name}", "fill it in or delete the row")
    twice = table.duplicated(["patient_id", "series_id"])
    _refuse(twice, path, "a series that was there before", "keep one row a series")
    organ = pd.to_numeric(table["incomplete_organ"], errors="coerce")
    wrong = table["incomplete_organ"].notna() & ~organ.isin([0, 1])
    _refuse(wrong, path, "an incomplete_organ that is neither 0 nor 1", "write 0 or 1, or leave it empty")
    hu = pd.to_numeric(table["aortic_hu"], errors="coerce")
    wrong = (table["aortic_hu"].notna() & hu.isna()) | np.isinf(hu)
    _refuse(wrong, path, "an aortic_hu that is no number", "write HU, or leave it empty")
    return _typed(table)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    ids = {name: table[name].astype(object) for name in ("patient_id", "series_id")}
    hu = pd.to_numeric(table["aortic_hu"]).astype(np.float64)
    organ = pd.to_numeric(table["incomplete_organ"]).astype("Int64")
    return table.assign(**ids, aortic_hu=hu, incomplete_organ=organ).reset_index(drop=True)


def _refuse(wrong: pd.Series, path: Path, what: str, way_out: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise LabelError(f"{path}: row {rows[0] + 1}{more} has {what}; {way_out}")


def _holds_series(folder: Path) -> bool:
    """Look for one `<patient>/<series>/` folder, so that any other folder of that name is no image folder."""
    return any(next(_folders(patient), None) is not None for patient in _folders(folder))


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry.path) for entry in entries if entry.name[0] != "." and entry.is_dir())
    except OSError:  # missing or unreadable: the walk of the sources reports it
        return


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None
