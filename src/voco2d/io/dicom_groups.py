"""Groups DICOM files into the stacks of each series, by their headers or by the folders of the RSNA 2023 layout."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from voco2d.io.dicom_frames import read_headers
from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_stacks import split_stacks
from voco2d.io.rsna_layout import rsna_ids
from voco2d.io.source import Rejection, Source
from voco2d.io.volume import MIN_SLICES

_Ids: TypeAlias = tuple[str, str, str]


@dataclass
class _Group:
    """Files of one series in one folder, or in several once they are joined; ids are of patient, study and series."""

    ids: _Ids
    files: list[Path] = field(default_factory=list)
    headers: list[SliceHeader] = field(default_factory=list)
    numbers: set[int | None] = field(default_factory=set)


class DicomGroups:
    """Collects DICOM files one by one; `sources` then gives a source for each stack of each series.

    Files without a series UID belong to their folder. Patients are kept apart whatever their UIDs, which some programs
    that remove names give out twice. A series that lies in several folders is joined, unless its
    instance numbers occur twice: then the folders hold copies, and each is a series.

    Args:
        min_slices: Fewest slices that make a stack of their own.
    """

    def __init__(self, min_slices: int = MIN_SLICES) -> None:
        self._groups: dict[tuple[_Ids, Path], _Group] = {}
        self._min_slices = min_slices

    def add(self, path: Path) -> None:
        """Take one file in.

        Raises:
            ReadError: When it is not a DICOM file of CT slices.
        """
        if rsna_ids(path) is not None:
            self._group(("", "", ""), path.parent).files.append(path)
            return
        headers, _ = read_headers(path)
        first = headers[0]
        group = self._group((first.patient_id, first.study_id if first.series_id else "", first.series_id), path.parent)
        group.files.append(path)
        group.headers += headers
        group.numbers.update(header.instance_number for header in headers if header.frame is None)

    def sources(self) -> tuple[list[Source], list[Rejection]]:
        """Return the stacks, each named by the folder that holds it alone or else by its first file.

        Returns:
            Sources, and a rejection for each file of a series that stands in none of its stacks.
        """
        stacks: list[Source] = []
        rejections: list[Rejection] = []
        for group in _join(list(self._groups.values())):
            if group.headers:
                found, strays = _split(group, self._min_slices)
                stacks += found
                rejections += strays
            else:
                stacks.append(Source("dicom", Path(), tuple(sorted(group.files))))
        return _name(stacks), rejections

    def _group(self, ids: _Ids, folder: Path) -> _Group:
        return self._groups.setdefault((ids, folder), _Group(ids))


def _join(groups: Sequence[_Group]) -> list[_Group]:
    """Join the folders of one series whose instance numbers don't meet."""
    joined: list[_Group] = []
    by_ids: dict[_Ids, list[_Group]] = defaultdict(list)
    for group in groups:
        partner = next((one for one in by_ids[group.ids] if _complete_each_other(one, group)), None)
        if partner is None:
            joined.append(group)
            by_ids[group.ids].append(group)
        else:
            partner.files += group.files
            partner.headers += group.headers
            partner.numbers |= group.numbers
    return joined


def _complete_each_other(one: _Group, other: _Group) -> bool:
    numbers = one.numbers | other.numbers
    numbered = bool(numbers) and None not in numbers
    return one.ids[-1] != "" and numbered and one.numbers.isdisjoint(other.numbers)


def _split(group: _Group, min_slices: int) -> tuple[list[Source], list[Rejection]]:
    stacks, rejections = split_stacks(group.headers, min_slices)
    sources = []
    for number, stack in enumerate(stacks, start=1):
        files = {header.path for header in stack}
        beside = [header for header in group.headers if header.path in files]
        # files of one slice belong to one stack; frames of a file may be spread over several
        index = 0 if len(beside) == len(stack) else split_stacks(beside, min_slices)[0].index(stack)
        sources.append(
            Source("dicom", Path(), tuple(sorted(files)), part=(number, len(stacks)), stack=index),
        )
    return sources, rejections


def _name(sources: Sequence[Source]) -> list[Source]:
    homes = [_home(source.files) for source in sources]
    tenants: Counter[Path] = Counter()
    for source in sources:
        folders = {file.parent.absolute() for file in source.files}
        tenants.update(folders.union(*(folder.parents for folder in folders)))
    named = []
    for source, home in zip(sources, homes, strict=True):
        patient_id, series_id = rsna_ids(source.files[0]) or (None, None)
        path = home if tenants[home.absolute()] == 1 else source.files[0]
        named.append(replace(source, path=path, patient_id=patient_id, series_id=series_id))
    return named


def _home(files: Sequence[Path]) -> Path:
    """Folder of the files, or the deepest one above them all."""
    folders = {file.parent for file in files}
    return folders.pop() if len(folders) == 1 else Path(os.path.commonpath([folder.absolute() for folder in folders]))
