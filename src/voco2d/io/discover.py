"""Finds the volumes under files and folders, and lists every file that is none.

A file is DICOM by its content, whatever its name; NIfTI and NumPy go by theirs. Files of the RSNA 2023 layout
(`train_images/<patient>/<series>/<n>.dcm`) are grouped by their folders without being opened, since the labels are
keyed by the folders' names and there are more than a million files. Other headers are read one after the other: their
parsing holds the interpreter's lock, and a pool of threads took two to three times as long.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from voco2d.errors import ReadError, UsageError
from voco2d.io.dataset_list import read_dataset_list
from voco2d.io.dicom_groups import DicomGroups
from voco2d.io.dicom_header import quiet_pydicom
from voco2d.io.numpy_array import is_sidecar
from voco2d.io.source import Rejection, Source
from voco2d.progress import Progress

__all__ = ["Rejection", "Source", "discover"]


def discover(paths: Sequence[Path]) -> tuple[list[Source], list[Rejection]]:
    """Find the volumes under `paths`.

    Folders are walked, links followed, hidden files and folders passed over in silence. A path to a .json file is
    read as a list of images (`voco2d.io.dataset_list`). Nothing is said about pixels: a source can still be refused
    when it is read.

    Args:
        paths: Files and folders; one that is named twice or lies in another is taken once.

    Returns:
        Sources sorted by path, and a rejection for each file that belongs to none, sorted by path.

    Raises:
        UsageError: When one of `paths` does not exist or can't be looked at.
    """
    roots, rejections = _expand(paths)
    sources: list[Source] = []
    groups = DicomGroups()
    with Progress("looking for scans", None) as progress, quiet_pydicom():
        for path in _files(roots, rejections):
            try:
                _sort_in(path, sources, groups)
            except ReadError as error:
                rejections.append(Rejection(error.path, error.reason))
            progress.advance()
    stacks, strays = groups.sources()
    sources += stacks
    rejections += strays
    sources.sort(key=lambda source: (str(source.path), str(source.files[0])))
    return sources, sorted(rejections, key=lambda rejection: (rejection.path, rejection.reason))


def _expand(paths: Sequence[Path]) -> tuple[list[Path], list[Rejection]]:
    """Check that `paths` exist and put the images of dataset lists in the place of the lists."""
    roots: list[Path] = []
    rejections: list[Rejection] = []
    for path in map(Path, paths):
        _refuse_missing(path)
        if path.is_file() and path.suffix.lower() == ".json":
            listed, missing = read_dataset_list(path)
            roots += listed
            rejections += missing
        else:
            roots.append(path)
    return roots, rejections


def _refuse_missing(path: Path) -> None:
    try:
        if path.exists():
            return
        problem = "is a link that leads nowhere" if path.is_symlink() else "does not exist"
    except OSError as error:
        problem = f"can't be opened ({error.strerror})"
    raise UsageError(f"{path} {problem}; name an existing file or folder")


def _files(roots: Sequence[Path], rejections: list[Rejection]) -> Iterator[Path]:
    """Yield every visible file once, folders before single files; folders that can't be listed are rejected."""

    def reject(error: OSError) -> None:
        rejections.append(Rejection(str(error.filename), f"folder can't be listed ({error.strerror})"))

    walked: set[str] = set()
    for root in (root for root in roots if root.is_dir()):
        for folder, folders, names in os.walk(root, onerror=reject, followlinks=True):
            real = os.path.realpath(folder)
            if real in walked:
                folders.clear()
                continue
            walked.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
    given: set[Path] = set()
    for file in (root for root in roots if not root.is_dir()):
        absolute = file.absolute()
        if absolute not in given and os.path.realpath(absolute.parent) not in walked:
            given.add(absolute)
            yield file


def _sort_in(path: Path, sources: list[Source], groups: DicomGroups) -> None:
    """Add one file to what it belongs to.

    Raises:
        ReadError: When it belongs to nothing.
    """
    name = path.name.lower()
    if not path.is_file() and path.exists():
        raise ReadError(path, "not an ordinary file")
    if name.endswith((".nii", ".nii.gz")):
        sources.append(Source("nifti", path, (path,)))
    elif name.endswith(".npy"):
        sources.append(Source("numpy", path, (path,)))
    elif not is_sidecar(path):
        groups.add(path)
