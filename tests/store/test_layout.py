import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voco2d.errors import StoreError
from voco2d.io.source import Source
from voco2d.store.files import write_atomically, write_failures, write_if_changed
from voco2d.store.layout import make_folders, source_fingerprint, source_identity, volume_key


@given(st.text(max_size=300), st.text(max_size=300))
def test_key_is_a_safe_short_file_name(patient: str, series: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,97}", volume_key(patient, series, "where"))


@pytest.mark.parametrize("hostile", ["../../etc/x", "..", "/etc/passwd", ".hidden", "a\\b\0c", "", "CON:", "-rf"])
def test_hostile_ids_can_not_leave_the_folder(hostile: str, tmp_path: Path) -> None:
    path = (tmp_path / f"{volume_key(hostile, hostile, 'where')}.npy").resolve()
    assert path.parent == tmp_path.resolve()
    assert not path.name.startswith((".", "-"))


def test_keys_differ_where_ids_look_alike() -> None:
    ids = [("a", "b"), ("a_b", ""), ("", "a_b"), ("a/b", ""), ("a?b", ""), ("a", "B"), ("x" * 99, "b"), ("x" * 98, "b")]
    keys = [volume_key(*pair, "where") for pair in ids] + [volume_key("a", "b", "elsewhere")]
    assert len({key.lower() for key in keys}) == len(keys)


def test_fingerprint_follows_size_time_and_names(tmp_path: Path) -> None:
    files = tuple(tmp_path / name for name in ("1.dcm", "2.dcm"))
    for file in files:
        file.write_bytes(b"abc")
    source = Source("dicom", tmp_path, files)
    first = source_fingerprint(source)
    assert source_fingerprint(Source("dicom", tmp_path, files[::-1])) == first
    os.utime(files[0], ns=(1, 1))
    assert source_fingerprint(source) != first
    assert source_fingerprint(Source("dicom", tmp_path, files[:1])) != first


def test_fingerprint_follows_the_sidecar_of_an_array(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    path.write_bytes(b"abc")
    source = Source("numpy", path, (path,))
    without = source_fingerprint(source)
    (tmp_path / "scan.json").write_text("{}")
    assert source_fingerprint(source) != without


def test_identity_is_the_place_and_the_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Source("dicom", Path("a/../b"), ())
    assert source_identity(relative) == source_identity(Source("dicom", tmp_path / "b", ()))
    assert source_identity(relative) != source_identity(Source("dicom", tmp_path / "b", (), series_id="1"))


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        file.write(b"new")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_if_changed(path, b"same")
    os.utime(path, ns=(1, 1))
    write_if_changed(path, b"same")
    assert path.stat().st_mtime_ns == 1
    write_if_changed(path, b"other")
    assert path.read_bytes() == b"other"


def test_only_abandoned_temporary_files_are_removed(tmp_path: Path) -> None:
    make_folders(tmp_path)
    old, fresh = (tmp_path / "volumes" / name for name in (".a.npy.0.tmp", ".b.npy.0.tmp"))
    for path in (old, fresh):
        path.touch()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    make_folders(tmp_path)
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize(("number", "words"), [(28, "disk is full"), (122, "disk is full"), (13, "can't write there")])
def test_write_failure_names_store_and_way_out(number: int, words: str) -> None:
    with (
        pytest.raises(StoreError, match=rf"^/some/store: .*{words}.*; do this$"),
        write_failures(Path("/some/store"), "do this"),
    ):
        raise OSError(number, os.strerror(number))
