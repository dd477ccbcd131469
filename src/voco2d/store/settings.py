"""The one set of settings a store is prepared with, kept in its store.json."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from voco2d.config import Tree, from_tree, to_tree
from voco2d.errors import ConfigError, StoreError
from voco2d.io.source import ReadArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.layout import SETTINGS, write_atomically

FORMAT = 1
"""Version of the layout; a store of a later one is refused."""


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


def read_settings(root: Path) -> StoreSettings:
    """Read the settings of the store at `root`.

    Raises:
        StoreError: There is no store, it is of a later version, or its store.json is damaged.
    """
    path = root / SETTINGS
    if not path.is_file():
        raise StoreError(f"{root}: no store there; make one with `voco2d prepare SOURCE --out {root}`")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree["format"]
        known = version == FORMAT
        settings = from_tree(StoreSettings, {key: tree[key] for key in ("preprocess", "read")}) if known else None
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise StoreError(f"{path}: damaged; prepare into another folder with `voco2d prepare ... --out`") from error
    if settings is None:
        raise StoreError(f"{root}: a store of format {version}, this program knows {FORMAT}; update voco2d")
    return settings


def settle(root: Path, settings: StoreSettings) -> None:
    """Write `settings` for a new store at `root`, or make sure that they are those it has.

    Raises:
        StoreError: The store has others, or `root` is a folder of something else.
        OSError: store.json can't be written.
    """
    if (root / SETTINGS).is_file():
        _refuse_others(root, there=read_settings(root), asked=settings)
        return
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root}: a file, not a folder; give another --out")
    if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise StoreError(f"{root}: holds files but no store; give an empty or new folder as --out")
    root.mkdir(parents=True, exist_ok=True)
    tree = {"format": FORMAT, "settings_hash": settings.hash, **to_tree(settings)}
    content = (json.dumps(tree, indent=2) + "\n").encode()
    write_atomically(root / SETTINGS, lambda file: file.write(content))


def _refuse_others(root: Path, there: StoreSettings, asked: StoreSettings) -> None:
    old, new = _flat(to_tree(there)), _flat(to_tree(asked))
    differing = [f"{key} is {old[key]} there, {new[key]} here" for key in old if old[key] != new[key]]
    if differing:
        raise StoreError(f"{root}: prepared with other settings ({'; '.join(differing)}); use them or another --out")


def _flat(tree: Tree, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
