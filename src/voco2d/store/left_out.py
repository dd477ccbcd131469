"""What runs of `prepare` left out besides refused sources and single files: one list for each set of places.

Lists rather than one table that every run rewrites: runs over different places that end at the same moment then lose
nothing of each other. A list speaks for its places; an entry of an older list that lies there is outdated.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voco2d.io.source import Rejection
from voco2d.store.files import remove_file, write_if_changed
from voco2d.store.layout import LEFT_OUT, digest
from voco2d.store.location import Location, absolute
from voco2d.store.record import read_trees


class Territory:
    """The places one call of `prepare` answers for.

    Args:
        places: Paths that were given or found; everything below them belongs too.
    """

    def __init__(self, places: Iterable[Path | str]) -> None:
        self._places = frozenset(absolute(place) for place in places)

    @property
    def places(self) -> tuple[str, ...]:
        """The places that lie in no other one, sorted."""
        return tuple(sorted(str(place) for place in self._places if self._places.isdisjoint(place.parents)))

    def __contains__(self, path: Path | str) -> bool:
        """Whether `path` is one of the places or lies below one."""
        place = absolute(path)
        return place in self._places or not self._places.isdisjoint(place.parents)

    def meets(self, other: "Territory") -> bool:
        """Whether a place of one lies in the other."""
        return any(place in other for place in self.places) or any(place in self for place in other.places)


@dataclass(frozen=True)
class LeftOutList:
    """What one call left out.

    Args:
        name: Name of its file, which follows from what the call was given.
        places: Where it looked.
        age: Higher than that of every earlier list whose places meet these.
        entries: Path and reason of everything left out.
    """

    name: str
    places: tuple[str, ...]
    age: int
    entries: tuple[tuple[str, str], ...]

    @property
    def territory(self) -> Territory:
        """Its places."""
        return Territory(self.places)


def write_left_out(
    root: Location, given: Sequence[Path], territory: Territory, entries: Iterable[Rejection]
) -> LeftOutList:
    """Write the list of a call and delete earlier ones that it replaces wholly.

    Args:
        root: The store.
        given: The sources of the call.
        territory: Where it looked.
        entries: What it left out.

    Raises:
        OSError: The store can't be written.
    """
    name = f"{digest(*sorted(str(absolute(path)) for path in given))}.json"
    lists = load_left_out(root)
    own = next((entry.age for entry in lists if entry.name == name), 0)
    others = [entry for entry in lists if entry.name != name and entry.territory.meets(territory)]
    newest = max((entry.age for entry in others), default=0)
    age = own if own > newest else newest + 1
    rows = tuple(sorted({(str(entry.path), entry.reason) for entry in entries}))
    fresh = LeftOutList(name, territory.places, age, rows)
    text = json.dumps(asdict(fresh), indent=1, sort_keys=True) + "\n"
    write_if_changed(root / LEFT_OUT / name, text.encode())
    for entry in others:
        if all(place in territory for place in entry.places):
            remove_file(root / LEFT_OUT / entry.name)
    return fresh


def load_left_out(root: Location) -> list[LeftOutList]:
    """Read all lists of the store at `root`, in the order of their names."""
    lists = [_parse(tree) for tree in read_trees(root / LEFT_OUT)]
    return [entry for entry in lists if entry is not None]


def standing_entries(lists: Sequence[LeftOutList]) -> list[Rejection]:
    """Return the entries that no later list speaks for."""
    standing = []
    territories = [(entry.age, entry.territory) for entry in lists]
    for entry in lists:
        later = [territory for age, territory in territories if age > entry.age]
        standing += [
            Rejection(path, reason)
            for path, reason in entry.entries
            if not any(path in territory for territory in later)
        ]
    return standing


def _parse(tree: dict[str, Any]) -> LeftOutList | None:
    if set(tree) != set(LeftOutList.__dataclass_fields__):
        return None
    entries = tuple((str(path), str(reason)) for path, reason in tree["entries"])
    return LeftOutList(str(tree["name"]), tuple(map(str, tree["places"])), int(tree["age"]), entries)
