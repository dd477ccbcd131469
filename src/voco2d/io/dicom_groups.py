"""Groups DICOM files into series, by the UID in their headers or by the folders of the RSNA 2023 layout."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voco2d.errors import ReadError
from voco2d.io.dicom_header import has_dicom_content, modality_word, open_header, text
from voco2d.io.source import Source

_RSNA_ROOTS = ("train_images", "test_images")
_SERIES_TAGS = ("Modality", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "Rows")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass
class _Group:
    """Files of one series in one folder, or in several once they are joined."""

    uids: tuple[str, str]
    files: list[Path] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)


class DicomGroups:
    """Collects DICOM files one by one; `sources` then gives the series.

    Files without a series UID belong to their folder. A series that lies in several folders is joined, unless its
    instance numbers occur twice: then the folders hold copies, and each is a series.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, Path], _Group] = {}

    def add(self, path: Path) -> None:
        """Take one file in.

        Raises:
            ReadError: When it is not a DICOM image.
        """
        if rsna_ids(path) is not None:
            self._group(("", ""), path.parent).files.append(path)
            return
        if not has_dicom_content(path):
            raise ReadError(path, _why_foreign(path))
        header = open_header(path, _SERIES_TAGS)
        if not text(header, "Rows"):
            raise ReadError(
                path, f"DICOM without an image, or cut short (modality {modality_word(header) or 'not stated'})"
            )
        uid = text(header, "SeriesInstanceUID")
        group = self._group((text(header, "StudyInstanceUID"), uid) if uid else ("", ""), path.parent)
        group.files.append(path)
        group.numbers.add(text(header, "InstanceNumber"))

    def sources(self) -> list[Source]:
        """Return the series, each named by the folder that holds it alone or else by its first file."""
        groups = _join(list(self._groups.values()))
        homes = [_home(group.files) for group in groups]
        tenants: Counter[Path] = Counter()
        for group in groups:
            folders = {file.parent.absolute() for file in group.files}
            tenants.update(folders.union(*(folder.parents for folder in folders)))
        sources = []
        for group, home in zip(groups, homes, strict=True):
            files = sorted(group.files)
            patient_id, series_id = rsna_ids(files[0]) or (None, None)
            name = home if tenants[home.absolute()] == 1 else files[0]
            sources.append(Source("dicom", name, tuple(files), patient_id, series_id))
        return sources

    def _group(self, uids: tuple[str, str], folder: Path) -> _Group:
        return self._groups.setdefault((*uids, folder), _Group(uids))


def rsna_ids(path: Path) -> tuple[str, str] | None:
    """Patient and series of a file `train_images/<patient>/<series>/<n>.dcm`, wherever in it the user started."""
    if path.suffix.lower() != ".dcm":
        return None
    parts = Path(os.path.abspath(path)).parts  # noqa: PTH100, resolve() would follow links and lose the layout
    return (parts[-3], parts[-2]) if len(parts) > 3 and parts[-4] in _RSNA_ROOTS else None


def _join(groups: Sequence[_Group]) -> list[_Group]:
    """Join the folders of one series whose instance numbers don't meet."""
    joined: list[_Group] = []
    by_uids: dict[tuple[str, str], list[_Group]] = defaultdict(list)
    for group in groups:
        partner = next((one for one in by_uids[group.uids] if _complete_each_other(one, group)), None)
        if partner is None:
            joined.append(group)
            by_uids[group.uids].append(group)
        else:
            partner.files += group.files
            partner.numbers |= group.numbers
    return joined


def _complete_each_other(one: _Group, other: _Group) -> bool:
    numbered = "" not in one.numbers | other.numbers
    return one.uids != ("", "") and numbered and one.numbers.isdisjoint(other.numbers)


def _home(files: Sequence[Path]) -> Path:
    """Folder of the files, or the deepest one above them all."""
    folders = {file.parent for file in files}
    return folders.pop() if len(folders) == 1 else Path(os.path.commonpath([folder.absolute() for folder in folders]))


def _why_foreign(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        return "empty file"
    if suffix in _DICOM_SUFFIXES:
        return f"not a DICOM file although named {suffix}"
    return f"not a CT format: {suffix}" if 1 < len(suffix) <= 8 else "not a CT format"
