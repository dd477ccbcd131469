"""Finds the volumes under files and folders, and lists every file that is none.

A file is DICOM by its content, whatever its name; NIfTI, NRRD, MetaImage and NumPy go by theirs. Files of the RSNA
2023 layout (`train_images/<patient>/<series>/<n>.dcm`) are grouped by their folders without being opened, since the
labels are keyed by the folders' names and there are more than a million files. Other headers are read one after the
other: their parsing holds the interpreter's lock, and a pool of threads took two to three times as long.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from voco2d.errors import ReadError, UsageError
from voco2d.io.dataset_list import read_dataset_list
from voco2d.io.dicom_groups import DicomGroups
from voco2d.io.dicom_quiet import quiet_pydicom
from voco2d.io.itk_image import ITK_SUFFIXES, detached_data
from voco2d.io.numpy_array import is_sidecar
from voco2d.io.path_table import Listed, name_sources, read_path_table
from voco2d.io.presence import why_absent
from voco2d.io.rsna_layout import IMAGE_FOLDERS, RsnaRoot, find_rsna_root
from voco2d.io.source import Rejection, Source
from voco2d.io.volume import MIN_SLICES
from voco2d.progress import Progress

__all__ = ["Rejection", "Source", "discover", "refuse_missing"]

_log = logging.getLogger(__name__)
_IMAGES_TO_LABELS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs", "imagesVal": "labelsVal"}
_CHANNEL = re.compile(r"(.+)_(\d{4})\.nii(\.gz)?", re.IGNORECASE)


def discover(paths: Sequence[Path], min_slices: int = MIN_SLICES) -> tuple[list[Source], list[Rejection]]:
    """Find the volumes under `paths`.

    Folders are walked, links followed, hidden files and folders passed over in silence. A path to a .json file is
    read as a list of images (`voco2d.io.dataset_list`), one to a .csv file as a table of paths
    (`voco2d.io.path_table`); one that is none is rejected, if others were named. Of a competition folder only the
    images are looked at, of a folder in the layout of nnU-Net or the Medical Segmentation Decathlon not its labels. A
    DICOMDIR is passed over: the files it lists are found anyway. Nothing is said about pixels: a source can still be
    refused when it is read.

    Args:
        paths: Files and folders; one that is named twice or lies in another is taken once.
        min_slices: Fewest slices that make a DICOM stack of their own.

    Returns:
        Sources sorted by path, and a rejection for each file that belongs to none, sorted by path.

    Raises:
        UsageError: When one of `paths` does not exist or can't be looked at, or the only one is no list or table.
    """
    roots, listed, rejections = _expand(paths)
    sources: list[Source] = []
    groups = DicomGroups(min_slices)
    voxels_beside: set[str] = set()
    with Progress("looking for scans", None) as progress, quiet_pydicom():
        for found in _walk(roots, rejections):
            if isinstance(found, Source):
                sources.append(found)
                progress.advance(len(found.files))
                continue
            try:
                _sort_in(found, sources, groups, voxels_beside)
            except ReadError as error:
                rejections.append(Rejection(error.path, error.reason))
            progress.advance()
    stacks, strays = groups.sources()
    sources = name_sources([*sources, *stacks], listed)
    sources.sort(key=lambda source: (str(source.path), str(source.files[0]), source.part))
    rejections = [entry for entry in [*rejections, *strays] if entry.path not in voxels_beside]
    return sources, sorted(rejections, key=lambda rejection: (rejection.path, rejection.reason))


def _expand(paths: Sequence[Path]) -> tuple[list[Path], list[Listed], list[Rejection]]:
    """Check that `paths` exist and put what lists and tables name in their place."""
    roots: list[Path] = []
    listed: list[Listed] = []
    rejections: list[Rejection] = []
    for path in map(Path, paths):
        refuse_missing(path)
        suffix = path.suffix.lower() if path.is_file() else ""
        try:
            if suffix == ".json":
                images, missing = read_dataset_list(path)
                roots += images
                rejections += missing
            elif suffix == ".csv":
                lines, missing = read_path_table(path)
                roots += [line.path for line in lines]
                listed += lines
                rejections += missing
            else:
                roots.append(path)
        except UsageError as error:
            if len(paths) == 1:
                raise
            rejections.append(Rejection(str(path), str(error).removeprefix(f"{path}: ")))
    return roots, listed, rejections


def refuse_missing(path: Path) -> None:
    """Raise a `UsageError` where there is nothing at a path."""
    problem = why_absent(path)
    if problem:
        raise UsageError(f"{path}: {problem}; name an existing file or folder")


def _walk(roots: Sequence[Path], rejections: list[Rejection]) -> Iterator[Path | Source]:
    """Yield every visible file once, folders before single files; folders that can't be listed are rejected.

    The series of competition folders are yielded as sources, without a look at each file.
    """

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
            competition = _competition(Path(folder), folders)
            if competition is not None:
                folders.clear()
                yield from _competition_series(competition, walked, reject)
                continue
            _leave_out_labels(Path(folder), folders, names)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
    given: set[Path] = set()
    for file in (root for root in roots if not root.is_dir()):
        absolute = file.absolute()
        if absolute not in given and os.path.realpath(absolute.parent) not in walked:
            given.add(absolute)
            yield file


def _competition(folder: Path, folders: Sequence[str]) -> RsnaRoot | None:
    likely = folder.absolute().name in IMAGE_FOLDERS or not set(IMAGE_FOLDERS).isdisjoint(folders)
    return find_rsna_root(folder) if likely else None


def _competition_series(root: RsnaRoot, walked: set[str], reject: Callable[[OSError], None]) -> Iterator[Path | Source]:
    for folder in root.image_folders:
        walked.add(os.path.realpath(folder))
        for patient in _visible(folder, reject):
            if not patient.is_dir():
                yield Path(patient.path)
                continue
            walked.add(os.path.realpath(patient.path))
            for series in _visible(patient.path, reject):
                if not series.is_dir():
                    yield Path(series.path)
                elif (real := os.path.realpath(series.path)) not in walked:
                    walked.add(real)
                    yield from _competition_files(patient.name, series, reject)


def _competition_files(
    patient: str, series: os.DirEntry[str], reject: Callable[[OSError], None]
) -> Iterator[Path | Source]:
    files: list[Path] = []
    others: list[Path] = []
    for entry in _visible(series.path, reject):
        # a pipe would never end; what the name says is else taken on trust
        is_slice = entry.name.lower().endswith(".dcm") and _is_ordinary(entry)
        (files if is_slice else others).append(Path(series.path, entry.name))
    if files:
        yield Source("dicom", Path(series.path), tuple(files), patient, series.name)
    yield from others


def _is_ordinary(entry: os.DirEntry[str]) -> bool:
    """Say whether it is a file, or a link without an end, which is left to the reader to refuse."""
    try:
        return entry.is_file() or not Path(entry.path).exists()
    except OSError:
        return True


def _visible(folder: Path | str, reject: Callable[[OSError], None]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        reject(error)
        return []
    return sorted(visible, key=lambda entry: entry.name)


def _leave_out_labels(folder: Path, folders: list[str], names: list[str]) -> None:
    """Drop label folders that stand beside image folders, and the list that describes both."""
    labels = [label for images, label in _IMAGES_TO_LABELS.items() if images in folders and label in folders]
    if labels:
        _log.info("%s: %s left out, labels are no scans", folder, " and ".join(labels))
        folders[:] = [name for name in folders if name not in labels]
    if not set(_IMAGES_TO_LABELS).isdisjoint(folders) and "dataset.json" in names:
        names.remove("dataset.json")


def _sort_in(path: Path, sources: list[Source], groups: DicomGroups, voxels_beside: set[str]) -> None:
    """Add one file to what it belongs to.

    Raises:
        ReadError: When it belongs to nothing.
    """
    name = path.name.lower()
    try:
        if not path.is_file() and path.exists():
            raise ReadError(path, "not an ordinary file")
    except OSError as error:  # such as a link to a name that is too long for the file system
        raise ReadError(path, f"can't be opened ({error.strerror})") from error
    if name.endswith((".nii", ".nii.gz")):
        sources.append(_nifti(path))
    elif name.endswith(".npy"):
        sources.append(Source("numpy", path, (path,)))
    elif name.endswith(ITK_SUFFIXES):
        beside = detached_data(path)
        if beside is not None:
            voxels_beside.add(str(beside))
        sources.append(Source("itk", path, (path,) if beside is None else (path, beside)))
    elif name != "dicomdir" and not is_sidecar(path):
        groups.add(path)


def _nifti(path: Path) -> Source:
    """A NIfTI file; in a folder of nnU-Net images the case is its name without the channel.

    Raises:
        ReadError: For channels but the first.
    """
    case = _CHANNEL.fullmatch(path.name) if path.parent.name in _IMAGES_TO_LABELS else None
    if case is None:
        return Source("nifti", path, (path,))
    first = path.with_name(f"{case.group(1)}_0000.nii{case.group(3) or ''}")
    if case.group(2) != "0000":
        if not first.exists():
            return Source("nifti", path, (path,))  # some data sets count their cases with four digits
        raise ReadError(path, f"channel {case.group(2)} of a case; only channel 0000 is read")
    return Source("nifti", path, (path,), case.group(1), case.group(1))
