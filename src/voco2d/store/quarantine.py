"""The list of everything a store left out: quarantine.csv with the columns path and reason."""

import csv
import io
from collections.abc import Collection, Iterable
from pathlib import Path

from voco2d.io.source import Rejection
from voco2d.store.layout import QUARANTINE, absolute, write_if_changed

_HEADER = ("path", "reason")


def read_quarantine(root: Path) -> list[Rejection]:
    """Read the quarantine of the store at `root`; empty where there is none."""
    path = root / QUARANTINE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    return [Rejection(row[0], row[1]) for row in rows[1:] if len(row) == len(_HEADER)]


def write_quarantine(root: Path, rejections: Iterable[Rejection]) -> None:
    """Write `rejections`, each once, sorted by path.

    Raises:
        OSError: The file can't be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(sorted({(str(entry.path), entry.reason) for entry in rejections}))
    write_if_changed(root / QUARANTINE, text.getvalue().encode("utf-8", "surrogateescape"))


class Territory:
    """The places one call of `prepare` answers for.

    Args:
        places: Paths that were given or found; everything below them belongs too.
    """

    def __init__(self, places: Iterable[Path | str]) -> None:
        self._places: Collection[Path] = frozenset(absolute(place) for place in places)

    def __contains__(self, path: Path | str) -> bool:
        """Whether `path` is one of the places or lies below one."""
        place = absolute(path)
        return any(part in self._places for part in (place, *place.parents))
