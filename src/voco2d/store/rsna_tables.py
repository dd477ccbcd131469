"""The competition's tables inside a store: copied when its folder is prepared, joined when tables are made."""

import logging
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from voco2d.io.rsna_layout import RsnaRoot, find_rsna_root
from voco2d.io.rsna_series import META_COLUMNS, read_series_meta, read_series_table
from voco2d.store.files import list_files, read_file, write_if_changed
from voco2d.store.layout import LABELS, RSNA, digest
from voco2d.store.location import Location, absolute
from voco2d.store.record import JOINED

_log = logging.getLogger(__name__)

_LABELS_ENDING = "-train.csv"
_META_ENDING = "-train_series_meta.csv"


def find_roots(sources: Sequence[Path]) -> list[RsnaRoot]:
    """Recognise the competition folders among `sources` and check their tables of series.

    Raises:
        LabelError: A table can't be used; better now than after hours of work.
    """
    roots = [root for source in sources if (root := find_rsna_root(source)) is not None]
    for root in roots:
        read_series_meta(root)
    return roots


def copy_tables(store: Location, roots: Sequence[RsnaRoot]) -> None:
    """Copy the tables of competition folders into the store, each under the name of its folder's hash.

    Raises:
        OSError: The store can't be written, or a table not be read.
    """
    for root in roots:
        name = digest(str(absolute(root.path)), size=8)
        for table, ending in ((root.labels, _LABELS_ENDING), (root.series_meta, _META_ENDING)):
            if table is not None:
                write_if_changed(store / RSNA / f"{name}{ending}", table.read_bytes())


def join_series_meta(store: Location, index: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `aortic_hu` and `incomplete_organ`, missing where no table tells them.

    Args:
        store: The store.
        index: One row a volume with `patient_id` and `series_id`; its order is kept.
    """
    tables = [_series_table(content) for content in _contents(store, _META_ENDING)]
    if not tables:
        return index.assign(**{name: missing_column(name, index.index) for name in JOINED})
    meta = pd.concat(tables, ignore_index=True).drop_duplicates(list(META_COLUMNS[:2]), keep="last")
    keys = dict.fromkeys(META_COLUMNS[:2], "str")
    return index.astype(keys).merge(meta.astype(keys), how="left", on=list(META_COLUMNS[:2]), validate="m:1")


def missing_column(name: str, rows: pd.Index) -> pd.Series:
    """A column of JOINED in which every value is missing."""
    kind: Any = JOINED[name]
    missing = float("nan") if kind == "float64" else pd.NA
    return pd.Series([missing] * len(rows), index=rows, name=name, dtype=kind)


def write_labels(store: Location) -> None:
    """Write labels.csv where competition folders with labels were prepared: a copy, or of several the rows of all.

    Raises:
        OSError: The store can't be written.
    """
    contents = _contents(store, _LABELS_ENDING)
    if not contents:
        return
    if len(set(contents)) == 1:
        write_if_changed(store / LABELS, contents[0])
        return
    tables = [pd.read_csv(BytesIO(content), dtype=str, keep_default_na=False) for content in contents]
    columns = list(tables[0].columns)
    if any(list(table.columns) != columns for table in tables) or "patient_id" not in columns:
        _log.warning("%s: holds label tables with different columns; give `--labels` to the next commands", store)
        return
    merged = pd.concat(tables, ignore_index=True).drop_duplicates("patient_id", keep="last")
    write_if_changed(store / LABELS, merged.to_csv(index=False, lineterminator="\n").encode())


def _series_table(content: bytes) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train_series_meta.csv")
        path.write_bytes(content)
        return read_series_table(path)


def _contents(store: Location, ending: str) -> list[bytes]:
    names = list_files(store / RSNA, ending)
    return [content for name in names if (content := read_file(store / RSNA / name)) is not None]
