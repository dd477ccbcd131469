"""Recognises the folder layout of the RSNA 2023 competition. Imports no pandas: workers that read series load this."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_FOLDERS = ("train_images", "test_images")
LABELS_NAME = "train.csv"
SERIES_META_NAME = "train_series_meta.csv"
IMAGE_LEVEL_LABELS_NAME = "image_level_labels.csv"
SEGMENTATIONS_NAME = "segmentations"


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
