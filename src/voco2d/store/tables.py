"""The tables of a store, compiled from what lies in it, so that no run can take away what another one found."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from voco2d.io.source import Rejection
from voco2d.quality.measure import QUALITY_COLUMNS
from voco2d.quality.page import render_page
from voco2d.store.files import list_files, write_if_changed
from voco2d.store.layout import INDEX, LEFT_OUT, QUALITY, QUALITY_PAGE, QUARANTINE, RECORDS, REFUSED, RSNA
from voco2d.store.left_out import load_left_out, standing_entries
from voco2d.store.location import Location
from voco2d.store.record import COLUMNS, RECORD_COLUMNS, Record, load_records, load_refusals
from voco2d.store.rsna_tables import join_series_meta, write_labels

_HEADER = ("path", "reason")
_ROUNDS = 20


def write_tables(root: Location) -> None:
    """Compile index.parquet, quarantine.csv, labels.csv, quality.parquet and quality.html.

    Repeated while other runs add to the store: the one that ends last sees what all have done, and no table can be
    left behind by one that listed the store early and wrote late.

    Raises:
        OSError: The store can't be written.
    """
    for _ in range(_ROUNDS):
        before = _state(root)
        _compile(root)
        if _state(root) == before:
            return


def _compile(root: Location) -> None:
    records = load_records(root)
    refusals = load_refusals(root)
    for identity in records.keys() & refusals.keys():
        refusals.pop(identity).remove(root)
    index = _index(root, records)
    write_if_changed(root / INDEX, _parquet(index))
    files = [entry for record in records.values() for entry in record.left_out]
    standing = standing_entries(load_left_out(root))
    left_out = _distinct([*(refusal.rejection for refusal in refusals.values()), *files, *standing])
    write_if_changed(root / QUARANTINE, _csv(left_out))
    write_labels(root)
    table = _quality(index, records)
    write_if_changed(root / QUALITY, _parquet(table))
    write_if_changed(root / QUALITY_PAGE, render_page(table, left_out).encode("utf-8", "backslashreplace"))


def _state(root: Location) -> dict[str, Mapping[str, tuple[int, str]]]:
    return {folder: list_files(root / folder) for folder in (RECORDS, REFUSED, LEFT_OUT, RSNA)}


def _index(root: Location, records: Mapping[str, Record]) -> pd.DataFrame:
    rows = [record.row for record in records.values()]
    table = pd.DataFrame(rows, columns=list(RECORD_COLUMNS)).astype(dict(RECORD_COLUMNS))
    table = join_series_meta(root, table).astype(dict(COLUMNS))[list(COLUMNS)]
    # keys depend on where the sources lie; the order of volumes, which training draws from, should not
    return table.sort_values(["patient_id", "study_id", "series_id", "key"], ignore_index=True)


def _quality(index: pd.DataFrame, records: Mapping[str, Record]) -> pd.DataFrame:
    """Put the measures beside the index; numbers that could not be measured are missing, words empty."""
    rows = {record.key: record.quality for record in records.values()}
    columns = {
        name: pd.Series([rows[key].get(name) for key in index["key"]], index=index.index, dtype="object")
        for name in QUALITY_COLUMNS
    }
    words = [name for name, kind in QUALITY_COLUMNS.items() if kind == "str"]
    measures = pd.DataFrame(columns, index=index.index)
    measures[words] = measures[words].fillna("")
    own = index.drop(columns=[name for name in index.columns if name in QUALITY_COLUMNS])
    return pd.concat([own, measures.astype(dict(QUALITY_COLUMNS))], axis=1)


def _distinct(entries: Iterable[Rejection]) -> list[Rejection]:
    """Each entry once, sorted by path."""
    return [Rejection(*pair) for pair in sorted({(str(entry.path), entry.reason) for entry in entries})]


def _csv(entries: Sequence[Rejection]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows((entry.path, entry.reason) for entry in entries)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _parquet(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    return content.getvalue()
