import json
import pickle
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import StoreError
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.record import COLUMNS
from voco2d.store.volume_store import VolumeStore


@pytest.fixture
def store(source: Path, tmp_path: Path, args: PrepareArgs) -> VolumeStore:
    prepare([source], tmp_path / "store", args)
    return VolumeStore(tmp_path / "store")


def test_volumes_are_read_only_maps_in_index_order(store: VolumeStore) -> None:
    assert len(store) == 4
    for row, volume in zip(store.index.itertuples(), store, strict=True):
        assert isinstance(volume, np.memmap)
        assert volume.shape == (4, 16, 16)
        assert volume.dtype == np.int16
        assert row.hu_mean == pytest.approx(float(volume.mean()))
    with pytest.raises(ValueError, match="read-only"):
        store[0][0, 0, 0] = 1


def test_index_has_the_promised_columns_and_types(store: VolumeStore) -> None:
    assert list(store.index.columns) == list(COLUMNS)
    for column, kind in COLUMNS.items():
        assert pd.api.types.is_string_dtype(store.index[column]) if kind == "str" else store.index[column].dtype == kind
    assert store.index["settings_hash"].unique().tolist() == [store.settings.hash]


def test_settings_come_back(store: VolumeStore, tmp_path: Path) -> None:
    assert store.preprocess_args == PreprocessArgs(size=(4, 16, 16))
    assert store.path == tmp_path / "store"
    assert "4 volumes" in repr(store)


def test_negative_and_outer_indices(store: VolumeStore) -> None:
    np.testing.assert_array_equal(store[-1], store[3])
    for index in (4, -5):
        with pytest.raises(IndexError, match="of 4"):
            store[index]


def test_pickled_store_reads_the_same(store: VolumeStore) -> None:
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy[2], store[2])
    assert len(pickle.dumps(store)) < 50_000


def test_reading_holds_no_files_open(store: VolumeStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        for number in range(200):
            store[number % 4].sum()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: no store there; make one with `voco2d prepare"):
        VolumeStore(tmp_path / "nowhere")


def test_store_of_a_later_format_is_refused(store: VolumeStore) -> None:
    path = store.path / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(StoreError, match="update voco2d"):
        VolumeStore(store.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "preprocess": 3, "read": {}}'])
def test_damaged_settings_are_one_sentence(store: VolumeStore, content: bytes) -> None:
    (store.path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.json: damaged"):
        VolumeStore(store.path)


def test_damaged_index_is_one_sentence(store: VolumeStore) -> None:
    index = store.path / "index.parquet"
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"index\.parquet: damaged"):
        VolumeStore(store.path)
    store.index.drop(columns="notes").to_parquet(index)
    with pytest.raises(StoreError, match="lacks notes"):
        VolumeStore(store.path)


def test_store_without_a_volume_is_one_sentence(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    prepare([source / "air.npy"], tmp_path / "empty", args)
    with pytest.raises(StoreError, match=r"no volume in the store; see its quarantine\.csv"):
        VolumeStore(tmp_path / "empty")


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "not numpy", "other shape", "objects"])
def test_damaged_volume_names_its_file_and_the_way_out(store: VolumeStore, harm: str) -> None:
    path = store.path / store.index["file"][1]
    if harm == "missing":
        path.unlink()
    elif harm in ("other shape", "objects"):
        np.save(path, np.zeros((2, 2, 2), np.int16) if harm == "other shape" else np.array([{}]), allow_pickle=True)
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-100], "not numpy": b"PK" * 2000}[harm])
    with pytest.raises(StoreError, match=rf"{path.name}: .*voco2d prepare"):
        store[1]
    assert [path.name in problem for problem in store.verify()] == [True]
    assert store[0].shape == (4, 16, 16)
