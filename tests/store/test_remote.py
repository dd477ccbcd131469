import errno
import functools
import http.server
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from upath import UPath

from voco2d.errors import ConfigError, StoreError, UsageError
from voco2d.store import files
from voco2d.store.build import PrepareArgs, PrepareSummary, prepare
from voco2d.store.location import parse_location
from voco2d.store.volume_store import VolumeStore

Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def url() -> Iterator[str]:
    yield "memory://bucket/store"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOCO2D_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remote_contents(url: str) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(url)
    return {str(path).removeprefix(root).lstrip("/"): system.cat_file(path) for path in system.find(root)}


def test_remote_store_equals_the_local_one(
    source: Path, tmp_path: Path, args: PrepareArgs, url: str, snapshot: Snapshot
) -> None:
    summary = prepare([source], url, args)
    assert summary == PrepareSummary(4, 0, 1, UPath(url))
    prepare([source], tmp_path / "store", args)
    assert remote_contents(url) == snapshot(tmp_path / "store")


def test_second_run_on_a_remote_store_writes_nothing(
    source: Path, args: PrepareArgs, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([source], url, args)

    def fail(*_: object) -> int:
        raise AssertionError("written again")

    for module in ("files", "conversion", "survey", "settings"):
        monkeypatch.setattr(f"voco2d.store.{module}.write_atomically", fail)
    assert prepare([source], url, args).unchanged == 4


def test_remote_volumes_are_fetched_once_and_mapped(
    source: Path, tmp_path: Path, args: PrepareArgs, url: str, cache: Path
) -> None:
    prepare([source], url, args)
    prepare([source], tmp_path / "store", args)
    store, local = pickle.loads(pickle.dumps(VolumeStore(url))), VolumeStore(tmp_path / "store")
    assert store.fingerprint() == local.fingerprint()
    for volume, expected in zip(store, local, strict=True):
        assert isinstance(volume, np.memmap)
        np.testing.assert_array_equal(volume, expected)
    fsspec.filesystem("memory").rm("/bucket/store/volumes", recursive=True)
    np.testing.assert_array_equal(store[1], local[1])
    next(cache.rglob(f"{store.index['key'][2]}*.npy")).write_bytes(b"cut short")
    with pytest.raises(StoreError, match=r"memory://.*missing"):
        store[2]


def test_damaged_copy_is_fetched_again(source: Path, args: PrepareArgs, url: str, cache: Path) -> None:
    prepare([source], url, args)
    store = VolumeStore(url)
    expected = np.array(store[0])
    for copy in cache.rglob("*.npy"):
        copy.write_bytes(copy.read_bytes()[:-7])
    np.testing.assert_array_equal(store[0], expected)


def test_changed_volume_is_not_taken_from_the_cache(
    source: Path, args: PrepareArgs, url: str, scan: Callable[..., Path]
) -> None:
    prepare([source], url, args)
    before = np.array(VolumeStore(url)[0])
    scan(source, "scan0", seed=50)
    prepare([source], url, args)
    assert (np.array(VolumeStore(url)[0]) != before).any()


def test_file_url_is_a_local_folder(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    prepare([source], f"file://{tmp_path}/store", args)
    assert isinstance(VolumeStore(f"file://{tmp_path}/store")[0], np.memmap)
    assert VolumeStore(tmp_path / "store").path == VolumeStore(f"file://{tmp_path}/store").path


def test_store_is_read_over_http(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    prepare([source], tmp_path / "store", args)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            store = VolumeStore(f"http://127.0.0.1:{server.server_address[1]}/store")
            local = VolumeStore(tmp_path / "store")
            assert store.labels is None
            for volume, expected in zip(store, local, strict=True):
                np.testing.assert_array_equal(volume, expected)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://user:secret@host/store", "holds a password"),
        ("https://host/store?sig=secret", "holds a password"),
        ("nonsense://host/store", "unknown protocol nonsense"),
    ],
)
def test_urls_that_can_not_be_used(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_location(url)
    assert "secret" not in str(caught.value)


def test_a_url_that_was_made_a_path_is_recognised() -> None:
    with pytest.raises(UsageError, match="looks like a URL"):
        parse_location(Path("s3://bucket/store"))


def test_memory_of_this_process_is_no_place_for_a_cluster(source: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="memory of this process"):
        prepare([source], url, PrepareArgs(dask="local:1"))


def test_failure_of_a_remote_file_system_is_one_sentence(
    source: Path, args: PrepareArgs, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise NoCredentialsError("secret key 1234")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", fail)
    with pytest.raises(StoreError, match="NoCredentialsError of the remote file system") as caught:
        prepare([source], url, args)
    assert "1234" not in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", fail)
    with pytest.raises(StoreError, match="can't be read"):
        VolumeStore(url)


def test_full_cache_names_the_variable(
    source: Path, args: PrepareArgs, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([source], url, args)
    store = VolumeStore(url)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreError, match="VOCO2D_CACHE"):
        store[0]
