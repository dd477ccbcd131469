"""The one set of settings a store is prepared with, kept in its store.json."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from voco2d.config import Tree, from_tree, to_tree
from voco2d.errors import ConfigError, StoreError, WrongStoreError
from voco2d.io.source import ReadArgs
from voco2d.preprocessing.preprocess import PreprocessArgs, settings_tree
from voco2d.store.files import list_files, make_folder, read_file, write_atomically
from voco2d.store.layout import SETTINGS
from voco2d.store.location import Location

FORMAT = 2
"""Version of the layout that is written. Stores of version 1 can be read, but not continued."""

_READABLE = (1, FORMAT)


@dataclass(frozen=True)
class StoreSettings:
    """Everything that decides what a source becomes.

    Args:
        preprocess: Body box, HU limits, size.
        read: How sources are read.
    """

    preprocess: PreprocessArgs = field(default_factory=PreprocessArgs)
    read: ReadArgs = field(default_factory=ReadArgs)

    @property
    def hash(self) -> str:
        """Hash of all values."""
        return blake2b(json.dumps(to_tree(self), sort_keys=True).encode(), digest_size=8).hexdigest()


def read_settings(root: Location) -> StoreSettings:
    """Read the settings of the store at `root`.

    Raises:
        StoreError: There is no store, it is of a later version, its store.json is damaged or can't be reached.
    """
    return _read(root)[1]


def settle(root: Location, settings: StoreSettings) -> None:
    """Write `settings` for a new store at `root`, or make sure that they are those it has.

    Raises:
        StoreError: The store has others or an older layout, or `root` is a folder of something else.
        OSError: store.json can't be written.
    """
    if read_file(root / SETTINGS) is not None:
        version, there = _read(root)
        if version != FORMAT:
            raise StoreError(
                f"{root}: made by an older voco2d (format {version}, now {FORMAT}); it can still be trained on, but "
                "not continued: prepare into another --out"
            )
        _refuse_others(root, there=there, asked=settings)
        return
    if isinstance(root, Path) and root.exists() and not root.is_dir():
        raise WrongStoreError(f"{root}: a file, not a folder; give another --out")
    if _holds_anything(root):
        raise WrongStoreError(f"{root}: holds files but no store; give an empty or new folder as --out")
    make_folder(root)
    tree = {"format": FORMAT, "settings_hash": settings.hash, **to_tree(settings)}
    content = (json.dumps(tree, indent=2) + "\n").encode()
    write_atomically(root / SETTINGS, lambda file: file.write(content))


def _read(root: Location) -> tuple[int, StoreSettings]:
    path = root / SETTINGS
    try:
        content = read_file(path)
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror or error}") from error
    if content is None:
        raise WrongStoreError(f"{root}: no store there; make one with `voco2d prepare SOURCE --out {root}`")
    try:
        tree = json.loads(content)
        version = tree["format"]
        known = version in _READABLE
        settings = from_tree(StoreSettings, _completed(tree)) if known else None
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise StoreError(f"{path}: damaged; prepare into another folder with `voco2d prepare ... --out`") from error
    if settings is None:
        raise StoreError(f"{root}: a store of format {version}, this program knows {FORMAT}; update voco2d")
    return version, settings


def _completed(tree: Tree) -> Tree:
    """Complete the settings of format 1, so that they mean what was done then: no tilt was corrected."""
    tilt = {} if tree["format"] == FORMAT else {"correct_tilt": False}
    return {"preprocess": settings_tree(tree["preprocess"]), "read": {**tilt, **tree["read"]}}


def _holds_anything(root: Location) -> bool:
    if isinstance(root, Path):
        return root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir())
    return bool(list_files(root))


def _refuse_others(root: Location, there: StoreSettings, asked: StoreSettings) -> None:
    old, new = _flat(to_tree(there)), _flat(to_tree(asked))
    differing = [f"{key} is {old[key]} there, {new[key]} here" for key in old if old[key] != new[key]]
    if differing:
        others = "; ".join(differing)
        raise WrongStoreError(f"{root}: prepared with other settings ({others}); use them or another --out")


def _flat(tree: Tree, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
