"""Reading a store: sized, indexable, quick to open, safe to hand to many processes."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from voco2d.errors import StoreError
from voco2d.memory import is_out_of_memory
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.files import make_folder, read_file, write_atomically
from voco2d.store.layout import INDEX, LABELS
from voco2d.store.location import Location, cache_folder, parse_location
from voco2d.store.record import COLUMNS, JOINED, LATER
from voco2d.store.rsna_tables import missing_column
from voco2d.store.settings import StoreSettings, read_settings
from voco2d.types import HuVolume


class VolumeStore:
    """Prepared volumes on disk, as `voco2d prepare` makes them.

    Opening reads the index only. A volume is a memory map made when it is asked for and closed when the caller lets
    go of it: a slice costs the pages it lies on, and thousands of volumes need no thousands of open files. An
    instance can be pickled; it sees the store as it was when it was opened.

    The volumes of a store behind a URL are copied as they are asked for, once, into a folder of this machine: below
    VOCO2D_CACHE, by default the user's cache folder. It needs room for all that are used, and can be deleted at any
    time when nothing runs.

    Args:
        path: Folder of the store, or its URL.

    Raises:
        UsageError: The URL can't be used.
        StoreError: The store is missing, empty, damaged or can't be reached.
    """

    def __init__(self, path: Location | str) -> None:
        self._path = parse_location(path)
        self._settings = read_settings(self._path)
        self._index = _read_index(self._path)

    @property
    def path(self) -> Location:
        """Folder or URL of the store."""
        return self._path

    @property
    def labels(self) -> Path | None:
        """The label table that came with the scans, on this machine, or None."""
        if isinstance(self._path, Path):
            return self._path / LABELS if (self._path / LABELS).is_file() else None
        content = _fetch(self._path / LABELS)
        return None if content is None else _keep(cache_folder(self._path) / LABELS, content)

    @property
    def index(self) -> pd.DataFrame:
        """One row a volume, in the order of `self[i]`; don't change it.

        Columns: key, patient_id, study_id, series_id, source, file (relative to the store); of the source: n_slices,
        height, width, spacing_z_mm, spacing_h_mm, spacing_w_mm, coverage_mm (head to foot); box_z0, box_z1, box_h0,
        box_h1, box_w0, box_w1 (see `Prepared`), body_fraction; of the prepared volume: hu_min, hu_max, hu_mean;
        notes (joined by "; "), instance_numbers (of the source's slices, see `decode_numbers`), source_hash,
        settings_hash; from the competition's table of series, missing elsewhere: aortic_hu, incomplete_organ.
        """
        return self._index

    @property
    def settings(self) -> StoreSettings:
        """Settings of reading and preprocessing."""
        return self._settings

    @property
    def preprocess_args(self) -> PreprocessArgs:
        """Settings of preprocessing; what a checkpoint must carry."""
        return self._settings.preprocess

    def fingerprint(self, positions: Sequence[int] | None = None) -> str:
        """Name volumes by what they were made from and how, so that a run can tell whether it still sees the same.

        Args:
            positions: Indices of the volumes, in their order; all by default.

        Returns:
            Their number and a hash of their keys, source hashes and settings hashes.
        """
        rows = self._index[["key", "source_hash", "settings_hash"]].astype(str)
        if positions is not None:
            rows = rows.iloc[list(positions)]
        text = "\n".join("\t".join(row) for row in rows.itertuples(index=False, name=None))
        return f"{len(rows)} ({blake2b(text.encode(), digest_size=8).hexdigest()})"

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> HuVolume:
        """Map volume `index` (negative counts from the end) read-only.

        Returns:
            (Z, H, W) int16 Hounsfield units, a `numpy.memmap`.

        Raises:
            IndexError: There is no such volume.
            StoreError: Its file is missing or damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"volume {index} of {len(self)} in {self._path}")
        size = self.preprocess_args.size
        path = self._path / str(self._index["file"].iloc[index])
        if isinstance(path, Path):
            return _map_volume(path, size)
        row = self._index.iloc[index]
        # the name tells the content, so that a copy is never outdated
        copy = cache_folder(self._path) / f"{row['key']}-{row['source_hash']}-{row['settings_hash']}.npy"
        return _map_copy(path, copy, size)

    def __iter__(self) -> Iterator[HuVolume]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"VolumeStore({str(self._path)!r}, {len(self)} volumes of {self.preprocess_args.size})"

    def verify(self) -> list[str]:
        """Look at the header and length of every volume; return one sentence for each that is missing or damaged."""
        problems = []
        for index in range(len(self)):
            try:
                self[index]
            except StoreError as error:
                problems.append(str(error))
        return problems


def _read_index(root: Location) -> pd.DataFrame:
    path = root / INDEX
    content = _fetch(path)
    if content is None:
        raise StoreError(f"{root}: has no index yet; finish it by running the same `voco2d prepare` again")
    try:
        index = pd.read_parquet(BytesIO(content))
    except (OSError, ValueError) as error:  # pyarrow's errors are of both kinds
        raise StoreError(f"{path}: damaged; delete it and run the same `voco2d prepare` again") from error
    for column in JOINED.keys() - set(index.columns):  # stores of format 1
        index[column] = missing_column(column, index.index)
    for column in LATER.keys() - set(index.columns):
        index[column] = LATER[column]
    missing = [column for column in COLUMNS if column not in index.columns]
    if missing:
        raise StoreError(f"{path}: lacks {', '.join(missing)}; delete it and run the same `voco2d prepare` again")
    if index.empty:
        raise StoreError(f"{root}: no volume in the store; see its quarantine.csv, then `voco2d prepare` other sources")
    return index[list(COLUMNS)]


def _fetch(path: Location) -> bytes | None:
    try:
        return read_file(path)
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror or error}") from error


def _keep(path: Path, content: bytes) -> Path:
    try:
        make_folder(path.parent)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        way_out = "make room, or name another folder in the environment variable VOCO2D_CACHE"
        raise StoreError(f"{path.parent}: can't keep a copy there: {error.strerror or error}; {way_out}") from error
    return path


def _map_copy(path: Location, copy: Path, size: tuple[int, int, int]) -> HuVolume:
    """Map the copy of a remote volume, fetching it where there is none or it is damaged."""
    try:
        return _map_volume(copy, size)
    except StoreError:
        content = _fetch(path)
    if content is None:
        raise StoreError(f"{path}: missing; run the same `voco2d prepare` again, it makes it anew")
    _keep(copy, content)
    try:
        return _map_volume(copy, size)
    except StoreError as error:
        copy.unlink(missing_ok=True)
        raise _damaged(path) from error


def _map_volume(path: Path, size: tuple[int, int, int]) -> HuVolume:
    try:
        volume: HuVolume = np.load(path, mmap_mode="r", allow_pickle=False)
        intact = volume.shape == size and volume.dtype == np.int16
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; run the same `voco2d prepare` again, it makes it anew") from error
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(path) from error
    if not intact:
        raise _damaged(path)
    return volume


def _damaged(path: Location) -> StoreError:
    return StoreError(f"{path}: damaged; delete it and run the same `voco2d prepare` again, it makes it anew")
